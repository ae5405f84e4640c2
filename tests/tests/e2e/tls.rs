//! Is a request given only to a backend that proves to be the one it is for?
//!
//! The clusters are those of `examples/azure-tls/clusters.yaml`; only where the backend listens and the file of the
//! authorities are of this machine. Lines are taken out of it to see that each is needed.

use serde_json::{Value, json};
use tollgate_tests::harness::tools::workspace;
use tollgate_tests::harness::{Answer, Gateway, Setup, credential_of};
use tollgate_tests::mock::{Mock, Settings};

use crate::envoy_lines::{part, take_out};
use crate::requests::{CHAT, WEB_SHOP, chat, check_record, record_of, refusal, web_shop_has, with};
use crate::terminator::{Authority, Certificate, Hello, Terminator};

const BACKENDS: [&str; 3] = ["ptu", "payg-a", "payg-b"];
const VALIDATION: &str = "/transport_socket/typed_config/common_tls_context/validation_context";

/// The host of a backend, which is the resource of its own name.
fn host(backend: &str) -> String {
    format!("{backend}.openai.azure.com")
}

/// The example's cluster, for the resource behind this backend.
fn example(backend: &str, port: u16, authorities: &str) -> Value {
    let text = std::fs::read_to_string(workspace().join("examples/azure-tls/clusters.yaml")).unwrap();
    let text = text.replace("RESOURCE", backend).replace("ptu\n", &format!("{backend}\n"));
    let mut cluster = serde_yaml_ng::from_str::<Value>(&text).unwrap()["clusters"][0].take();
    assert_eq!(cluster["name"], backend);
    assert_eq!(cluster["load_assignment"]["cluster_name"], backend);
    let endpoint = part(&mut cluster, "/load_assignment/endpoints/0/lb_endpoints/0/endpoint");
    assert_eq!(endpoint["hostname"], json!(host(backend)));
    let address = part(endpoint, "/address/socket_address");
    assert_eq!(*address, json!({ "address": host(backend), "port_value": 443 }));
    *address = json!({ "address": "127.0.0.1", "port_value": port });
    *part(&mut cluster, &format!("{VALIDATION}/trusted_ca/filename")) = json!(authorities);
    cluster
}

/// Three backends that speak TLS, and the authority that the gateway trusts.
struct Stage {
    authority: Authority,
    mocks: Vec<Mock>,
    terminators: Vec<Terminator>,
    dir: tempfile::TempDir,
}

impl Stage {
    /// All have good certificates, and the last one's is for all hosts of its domain, as Azure's are.
    async fn new() -> Self {
        let authority = Authority::new();
        let dir = tempfile::tempdir().unwrap();
        std::fs::write(dir.path().join("authorities.pem"), authority.pem()).unwrap();
        let mut stage = Self { authority, mocks: Vec::new(), terminators: Vec::new(), dir };
        for backend in BACKENDS {
            let mock = Mock::start(backend, Settings::default()).await.unwrap();
            let certificate = match backend {
                "ptu" => stage.authority.certificate(&host(backend)),
                _ => stage.authority.certificate("*.openai.azure.com"),
            };
            stage.terminators.push(Terminator::start(mock.addr(), certificate).await);
            stage.mocks.push(mock);
        }
        stage
    }

    /// The clusters are the example's, less this line of each.
    fn setup(&self, without: Option<&str>) -> Setup {
        let authorities = self.dir.path().join("authorities.pem");
        let authorities = authorities.to_str().unwrap();
        let mut clusters: Vec<_> = BACKENDS
            .iter()
            .zip(&self.terminators)
            .map(|(backend, terminator)| example(backend, terminator.port(), authorities))
            .collect();
        for cluster in &mut clusters {
            without.iter().for_each(|line| take_out(cluster, line));
            // Each request makes a connection, and each connection a handshake.
            cluster["typed_extension_protocol_options"] = json!({
                "envoy.extensions.upstreams.http.v3.HttpProtocolOptions": {
                    "@type": "type.googleapis.com/envoy.extensions.upstreams.http.v3.HttpProtocolOptions",
                    "common_http_protocol_options": { "max_requests_per_connection": 1 },
                    "explicit_http_config": { "http_protocol_options": {} },
                },
            });
        }
        let mut setup = Setup::new().workers(1).edit(web_shop_has(1500));
        for (backend, mock) in BACKENDS.iter().zip(&self.mocks) {
            let env = format!("{}_KEY", backend.to_uppercase().replace('-', "_"));
            setup = setup.backend(backend, &mock.url()).env(&env, &credential_of(backend));
        }
        setup.patch(move |envoy| *part(envoy, "/static_resources/clusters") = json!(clusters))
    }

    async fn start(&self, without: Option<&str>) -> Gateway {
        Gateway::start(self.setup(without)).await.unwrap()
    }

    /// Who connected to the backends, and how many requests they got; since this was asked last.
    fn seen(&self) -> Vec<(Vec<Hello>, usize)> {
        let of = |(terminator, mock): (&Terminator, &Mock)| {
            let received = mock.received().len();
            mock.forget();
            (terminator.hellos(), received)
        };
        self.terminators.iter().zip(&self.mocks).map(of).collect()
    }

    /// Certificates that `ptu` must not be trusted with, and why.
    fn bad(&self) -> [(&'static str, Certificate); 4] {
        [
            ("expired", self.authority.expired(&host("ptu"))),
            ("another host", self.authority.certificate("ptu.example")),
            ("somebody else's resource", self.authority.certificate("other.openai.azure.com")),
            ("unknown authority", Authority::new().certificate(&host("ptu"))),
        ]
    }
}

async fn ask(gateway: &Gateway) -> Answer {
    gateway.post(CHAT, WEB_SHOP, &chat("hello")).await.unwrap()
}

fn hello(backend: &str, trusted: bool) -> Vec<Hello> {
    vec![Hello { sni: Some(host(backend)), trusted }]
}

#[tokio::test]
async fn a_backend_without_proof_gets_nothing_and_the_next_answers() {
    let stage = Stage::new().await;
    let good = stage.authority.certificate(&host("ptu"));
    let gateway = stage.start(None).await;
    for (why, certificate) in stage.bad() {
        stage.terminators[0].show(certificate);
        let answer = ask(&gateway).await;
        assert_eq!(answer.status, 200, "{why}: {}", answer.text());
        let record = json!({ "backend": "payg-a", "attempts": 2, "outcome": "served" });
        check_record(&record_of(&gateway, &answer).await, &record);
        let seen = stage.seen();
        assert_eq!(seen[0], (hello("ptu", false), 0), "{why}");
        assert_eq!(seen[1].1, 1, "{why}");
    }
    stage.terminators[0].show(good);
    let answer = ask(&gateway).await;
    assert_eq!(answer.status, 200, "{}", answer.text());
    check_record(&record_of(&gateway, &answer).await, &json!({ "backend": "ptu", "attempts": 1 }));
    let received = stage.mocks[0].received().remove(0);
    assert_eq!(received.header("host"), Some(host("ptu").as_str()));
    assert_eq!(received.header("api-key"), Some(credential_of("ptu").as_str()));
    assert_eq!(stage.seen()[0], (hello("ptu", true), 1));
}

#[tokio::test]
async fn each_backend_is_asked_for_by_its_own_name() {
    let stage = Stage::new().await;
    let gateway = stage.start(None).await;
    for terminator in &stage.terminators[..2] {
        terminator.show(Authority::new().certificate("*.openai.azure.com"));
    }
    let answer = ask(&gateway).await;
    assert_eq!(answer.status, 200, "{}", answer.text());
    let expected = [(hello("ptu", false), 0), (hello("payg-a", false), 0), (hello("payg-b", true), 1)];
    assert_eq!(stage.seen(), expected);
}

#[tokio::test]
async fn backends_without_proof_are_reported_at_no_cost() {
    let stage = Stage::new().await;
    for (backend, terminator) in BACKENDS.iter().zip(&stage.terminators) {
        terminator.show(stage.authority.expired(&host(backend)));
    }
    let gateway = stage.start(None).await;
    // Three times: nothing is charged, or the budget would be spent.
    for stream in [false, true, false] {
        let body = with(chat("hello"), json!({ "max_tokens": 512, "stream": stream }));
        let answer = gateway.post(CHAT, WEB_SHOP, &body).await.unwrap();
        assert_eq!(answer.status, 503);
        let message = "No backend for this model could be reached.";
        assert_eq!(answer.json(), refusal(message, "server_error", None, "backend_unavailable"));
        let record = json!({ "attempts": 3, "prompt_tokens": "0", "completion_tokens": "0" });
        check_record(&record_of(&gateway, &answer).await, &record);
        let nothing = |backend: &&str| (hello(backend, false), 0);
        assert_eq!(stage.seen(), BACKENDS.iter().map(nothing).collect::<Vec<_>>());
    }
}

/// Which of the bad certificates are trusted without a line of the example.
async fn trusted_without(line: &str) -> Vec<&'static str> {
    let stage = Stage::new().await;
    let gateway = stage.start(Some(line)).await;
    let mut trusted = Vec::new();
    for (why, certificate) in stage.bad() {
        stage.terminators[0].show(certificate);
        assert_eq!(ask(&gateway).await.status, 200, "{why}");
        if stage.seen()[0] == (hello("ptu", true), 1) {
            trusted.push(why);
        }
    }
    trusted
}

#[tokio::test]
async fn each_line_that_checks_a_certificate_is_needed() {
    let names = format!("{VALIDATION}/match_typed_subject_alt_names");
    assert_eq!(trusted_without(&names).await, ["another host", "somebody else's resource"]);
    let all = ["expired", "another host", "somebody else's resource", "unknown authority"];
    assert_eq!(trusted_without(VALIDATION).await, all);

    let stage = Stage::new().await;
    let gateway = stage.start(Some("/transport_socket/typed_config/sni")).await;
    assert_eq!(ask(&gateway).await.status, 200);
    assert_eq!(stage.seen()[0].0, [Hello { sni: None, trusted: true }]);

    // This one is not missed silently.
    let authorities = format!("{VALIDATION}/trusted_ca");
    let log = Gateway::expect_start_failure(stage.setup(Some(&authorities))).await.unwrap();
    assert!(log.contains("without trusted CA is insecure and not allowed"), "{log}");
}
