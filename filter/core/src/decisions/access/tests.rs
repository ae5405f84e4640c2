use super::*;
use crate::credential::CredentialValue;
use crate::store::MemoryStore;
#[cfg(target_arch = "wasm32")]
use wasm_bindgen_test::wasm_bindgen_test as test;

const NOW: Duration = Duration::from_secs(1_795_000_000);
const SECOND: Duration = Duration::from_secs(1);
const SCOPE: &str = "https://cognitiveservices.azure.com/.default";

fn access(backend: &str, grant: Grant) -> Access {
    let access = Access::new(backend.into(), "issuer".to_owned(), SCOPE.to_owned(), grant, Rc::default());
    access.enter_service();
    access
}

fn machine() -> Grant {
    Grant::ManagedIdentity { client_id: None }
}

fn application(proof: Proof) -> Grant {
    Grant::Application {
        host: "login.example".to_owned(),
        tenant: "tenant.example".to_owned(),
        client_id: "client-1".to_owned(),
        proof,
    }
}

fn workload() -> Grant {
    application(Proof::TokenFrom("federated".to_owned()))
}

fn answer(token: &str, seconds: u64) -> String {
    format!(r#"{{"token_type":"Bearer","access_token":"{token}","expires_in":{seconds}}}"#)
}

/// VMs of one process.
struct Process {
    store: MemoryStore,
    vms: [Access; 3],
}

impl Process {
    fn new() -> Self {
        Self::of("a", machine, MemoryStore::default())
    }

    fn of(backend: &str, grant: fn() -> Grant, store: MemoryStore) -> Self {
        Self { store, vms: [(); 3].map(|()| access(backend, grant())) }
    }

    fn moment(&self, at: Duration) -> Moment<'_> {
        Moment::new(&self.store, NOW + at)
    }

    /// One that fetches if one of them is to; answers what came of it.
    fn tick(&self, at: Duration, fetch: Fetch<'_>) -> Option<Outcome> {
        let chosen: Vec<_> = self.vms.iter().filter(|vm| vm.claim(self.moment(at)).unwrap()).collect();
        assert!(chosen.len() <= 1, "{} fetch at {at:?}", chosen.len());
        chosen.first().map(|vm| match vm.answered(Stage::Token, fetch, self.moment(at)) {
            Next::Ended(outcome) => outcome.unwrap(),
            Next::Ask(_) => panic!("nothing more is asked"),
        })
    }

    /// What all of them show, if it is good.
    #[track_caller]
    fn check(&self, at: Duration, shown: Option<&str>) {
        for vm in &self.vms {
            vm.load(self.moment(at)).unwrap();
            let value = CredentialValue::Issued(vm.issued.clone());
            let found = value.value().filter(|_| !value.is_lacking(NOW + at));
            assert_eq!(found.as_deref(), shown, "{at:?}");
        }
    }
}

#[test]
fn a_machine_is_asked_to_the_letter() {
    let client_id = "00000000-0000-4000-8000-000000000001".to_owned();
    let (access, other) =
        (access("a", machine()), access("b", Grant::ManagedIdentity { client_id: Some(client_id.clone()) }));
    let (stage, question) = access.first();
    assert!(stage == Stage::Token && question.body.is_none());
    assert_eq!((question.cluster, question.method, question.host), ("issuer", "GET", "169.254.169.254"));
    let path = concat!(
        "/metadata/identity/oauth2/token?api-version=2018-02-01",
        "&resource=https%3A%2F%2Fcognitiveservices.azure.com"
    );
    assert_eq!((question.path.as_str(), question.header), (path, ("metadata", "true")));
    assert_eq!(other.first().1.path, format!("{path}&client_id={client_id}"));
}

#[test]
fn an_application_proves_itself_by_its_secret() {
    let access = access("a", application(Proof::Secret("s~1+/= ".to_owned())));
    let (stage, question) = access.first();
    assert_eq!(stage, Stage::Token);
    assert_eq!((question.cluster, question.method, question.host), ("issuer", "POST", "login.example"));
    assert_eq!(question.path, "/tenant.example/oauth2/v2.0/token");
    assert_eq!(question.header, ("content-type", "application/x-www-form-urlencoded"));
    let form = concat!(
        "client_id=client-1&scope=https%3A%2F%2Fcognitiveservices.azure.com%2F.default",
        "&client_secret=s~1%2B%2F%3D%20&grant_type=client_credentials"
    );
    assert_eq!(question.body.as_deref(), Some(form));
}

#[test]
fn a_workload_exchanges_the_token_of_its_cluster() {
    let access = access("a", workload());
    let store = MemoryStore::default();
    let moment = Moment::new(&store, NOW);
    let (stage, question) = access.first();
    assert_eq!(stage, Stage::Assertion);
    assert_eq!((question.cluster, question.method, question.path.as_str()), ("federated", "GET", "/"));
    // A file has a line's end.
    let Next::Ask(question) = access.answered(stage, Fetch::Body(b"e.y.J\n"), moment) else {
        panic!("it is exchanged");
    };
    assert_eq!((question.cluster, question.path.as_str()), ("issuer", "/tenant.example/oauth2/v2.0/token"));
    let form = concat!(
        "client_id=client-1&scope=https%3A%2F%2Fcognitiveservices.azure.com%2F.default",
        "&client_assertion_type=urn%3Aietf%3Aparams%3Aoauth%3Aclient-assertion-type%3Ajwt-bearer",
        "&client_assertion=e.y.J&grant_type=client_credentials"
    );
    assert_eq!(question.body.as_deref(), Some(form));
    for fetch in [Fetch::Nothing, Fetch::Refusal, Fetch::TooLong, Fetch::Body(b" \n"), Fetch::Body(b"a b")] {
        let Next::Ended(outcome) = access.answered(stage, fetch, moment) else { panic!("{fetch:?}") };
        assert_eq!(outcome, Ok(Outcome::NoAssertion));
    }
}

#[test]
fn one_of_all_fetches_and_all_show_what_it_got() {
    let process = Process::new();
    process.check(Duration::ZERO, None);
    let first = answer("t1", 3600);
    assert_eq!(process.tick(Duration::ZERO, Fetch::Body(first.as_bytes())), Some(Outcome::Renewed));
    process.check(Duration::ZERO, Some("Bearer t1"));
    assert_eq!(process.tick(1799 * SECOND, Fetch::Nothing), None);
    // At half of its life.
    let second = answer("t2", 3600);
    assert_eq!(process.tick(1800 * SECOND, Fetch::Body(second.as_bytes())), Some(Outcome::Renewed));
    process.check(1800 * SECOND, Some("Bearer t2"));
}

#[test]
fn a_token_is_kept_until_its_end_while_the_issuer_is_down() {
    let process = Process::new();
    let token = answer("t1", 100);
    assert_eq!(process.tick(Duration::ZERO, Fetch::Body(token.as_bytes())), Some(Outcome::Renewed));
    for (at, fetch, outcome) in [
        (50, Fetch::Nothing, Some(Outcome::Unreachable)),
        (50, Fetch::Nothing, None),
        (51, Fetch::Refusal, Some(Outcome::Refused)),
        (52, Fetch::Refusal, None),
        (53, Fetch::Body(b"{}"), Some(Outcome::Unusable)),
        (99, Fetch::TooLong, Some(Outcome::TooLong)),
    ] {
        assert_eq!(process.tick(at * SECOND, fetch), outcome, "{at}");
        process.check(at * SECOND, Some("Bearer t1"));
    }
    process.check(100 * SECOND, None);
    // What fails is not waited for.
    assert_eq!(process.vms[0].is_awaited(process.moment(100 * SECOND)), Ok(false));
}

#[test]
fn the_first_token_is_awaited_until_a_fetch_has_failed() {
    let process = Process::new();
    let awaited = |at: Duration| process.vms[1].is_awaited(process.moment(at)).unwrap();
    assert!(awaited(Duration::ZERO));
    assert!(process.vms[0].claim(process.moment(Duration::ZERO)).unwrap());
    assert!(awaited(Duration::ZERO));
    process.vms[0].answered(Stage::Token, Fetch::Nothing, process.moment(SECOND));
    assert!(!awaited(SECOND));
    let token = answer("t", 60);
    assert_eq!(process.tick(2 * SECOND, Fetch::Body(token.as_bytes())), Some(Outcome::Renewed));
    // What another VM has fetched is found at once.
    assert!(!awaited(2 * SECOND));
    assert!(!process.vms[1].issued.is_lacking(NOW + 2 * SECOND));
}

#[test]
fn who_never_had_a_token_asks_less_and_less_often() {
    let process = Process::new();
    let half = Duration::from_millis(500);
    let mut asked = Vec::new();
    for halves in 0..30 {
        if process.tick(half * halves, Fetch::Refusal).is_some() {
            asked.push(halves);
        }
    }
    assert_eq!(asked, [0, 2, 6, 14]);
}

#[test]
fn no_backend_is_shown_what_was_issued_for_another() {
    let process = Process::new();
    let token = answer("t", 3600);
    process.tick(Duration::ZERO, Fetch::Body(token.as_bytes()));
    let other_machine = || Grant::ManagedIdentity { client_id: Some("c".to_owned()) };
    let mut store = process.store;
    for (backend, grant) in [("b", machine as fn() -> Grant), ("a", other_machine), ("a", workload)] {
        let other = Process::of(backend, grant, store);
        other.check(Duration::ZERO, None);
        store = other.store;
    }
    Process::of("a", machine, store).check(Duration::ZERO, Some("Bearer t"));
}

#[test]
fn an_answer_is_read_in_both_spellings_or_not_at_all() {
    for (body, expected) in [
        (r#"{"access_token":"t","expires_in":3598,"token_type":"Bearer"}"#, Some((3598, 1799))),
        (
            r#"{"access_token":"t","expires_in":"86399","refresh_in":"43199","token_type":"bearer"}"#,
            Some((86_399, 43_199)),
        ),
        (r#"{"access_token":"t","expires_in":100,"refresh_in":5000}"#, Some((100, 75))),
        (r#"{"access_token":"t","expires_in":99999999999}"#, Some((604_800, 302_400))),
        (r#"{"access_token":"t","expires_in":100,"token_type":"mac"}"#, None),
        (r#"{"access_token":"t","expires_in":0}"#, None),
        (r#"{"access_token":"t","expires_in":"soon"}"#, None),
        (r#"{"access_token":"t"}"#, None),
        (r#"{"access_token":"","expires_in":100}"#, None),
        (r#"{"access_token":"a\r\nb: c","expires_in":100}"#, None),
        (r#"{"access_token":7,"expires_in":100}"#, None),
        (r#"{"error":"invalid_client"}"#, None),
        ("", None),
    ] {
        let token = Token::read(body.as_bytes());
        assert_eq!(token.map(|token| (token.life.as_secs(), token.renew.as_secs())), expected, "{body}");
    }
}

#[test]
fn a_fetch_whose_vm_died_is_made_again() {
    let process = Process::new();
    assert!(process.vms[0].claim(process.moment(Duration::ZERO)).unwrap());
    assert_eq!(process.tick(10 * SECOND, Fetch::Nothing), None);
    let token = answer("t", 3600);
    assert_eq!(process.tick(11 * SECOND, Fetch::Body(token.as_bytes())), Some(Outcome::Renewed));
}

#[test]
fn a_clock_that_is_put_back_keeps_no_token_for_ever() {
    let process = Process::new();
    let token = answer("t", 3600);
    let year = 365 * 24 * 3600 * SECOND;
    process.tick(year, Fetch::Body(token.as_bytes()));
    process.check(Duration::ZERO, None);
    assert_eq!(process.tick(Duration::ZERO, Fetch::Body(token.as_bytes())), Some(Outcome::Renewed));
    process.check(Duration::ZERO, Some("Bearer t"));
}

#[test]
fn nothing_of_a_token_can_be_printed() {
    let access = access("a", application(Proof::Secret("s3cret".to_owned())));
    access.issued.give("Bearer t0ken", Duration::MAX);
    assert_eq!(format!("{access:?}"), "Access(a by issuer)");
}

#[test]
fn the_law_of_stored_values_holds() {
    let fetching = Fetching { generation: 1, began: 2, succeeded: 3, failed: 4, failures: 5, spurred: 6 };
    codec::law::holds("access", &[Known { fetching, token: "t".to_owned(), until: 7, renew: 8 }]);
}
