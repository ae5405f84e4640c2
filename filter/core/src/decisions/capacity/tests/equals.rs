//! How much does each of several clients get that are equally important?

use super::*;
#[cfg(target_arch = "wasm32")]
use wasm_bindgen_test::wasm_bindgen_test as test;

const WINDOW: Duration = Duration::from_secs(10);

fn at(ms: u64) -> Duration {
    START + Duration::from_millis(ms)
}

/// A client whose requests take so many tokens each, of which so many wait at any time, from then on, for any of these capacities.
#[derive(Clone, Copy, Debug)]
struct Client {
    name: usize,
    tokens: u64,
    waiting: usize,
    from_s: u64,
    at: &'static [u64],
}

/// The tokens that each got of a hundred in ten seconds at each capacity, until then.
fn got(clients: &[Client], until_s: u64) -> Vec<u64> {
    let (store, mut queue) = (MemoryStore::default(), Queue::default());
    let place = |id: &u64| Place {
        lane: Lane::from(*id),
        gauges: only(Gauge { window: WINDOW, ..gauge(*id, 100) }),
        spare: 0,
    };
    let precedence = Precedence { headroom_min: 0, wait_max: Duration::from_secs(10_000) };
    let (mut got, mut waiting) = (vec![0; clients.len()], vec![0; clients.len()]);
    let mut whose = Vec::new();
    for ms in (0..until_s * 1000).step_by(100) {
        let moment = Moment::new(&store, at(ms));
        for (who, client) in clients.iter().enumerate().filter(|(_, client)| client.from_s * 1000 <= ms) {
            while waiting[who] < client.waiting {
                let (usage, name) = (used(client.tokens), format!("{}", client.name));
                let ask = Ask {
                    places: client.at.iter().map(place).collect(),
                    client: name.into(),
                    usage,
                    priority: Priority::Normal,
                    precedence,
                };
                whose.push(who);
                match queue.enter(whose.len() as u32 - 1, ask, &no_pause, moment).unwrap() {
                    Turn::Waits => waiting[who] += 1,
                    _ => got[who] += client.tokens,
                }
            }
        }
        for (id, turn) in queue.round(&no_pause, moment) {
            assert!(matches!(turn, Turn::Goes { .. }), "{turn:?}");
            let who = whose[id as usize];
            waiting[who] -= 1;
            got[who] += clients[who].tokens;
        }
    }
    got
}

#[test]
fn a_client_with_one_request_is_not_behind_another_ones_twenty() {
    let mut full = Full::new(100);
    let precedence = Precedence { wait_max: Duration::from_secs(300), ..PRECEDENCE };
    for id in 1..=21 {
        let client = if id == 21 { "one" } else { "many" };
        let ask = Ask { precedence, ..hopeful(client, Priority::Normal) };
        let moment = Moment::new(&full.store, s(0));
        assert_eq!(full.queue.enter(id, ask, &no_pause, moment).unwrap(), Turn::Waits, "{id}");
    }
    for (now, goes) in [(61, 1), (122, 21), (183, 2)] {
        assert_eq!(round(&mut full.queue, &full.store, s(now)), (vec![goes], vec![]), "{now}");
    }
}

#[test]
fn who_comes_back_stands_where_it_stood() {
    for had_turn in [true, false] {
        let mut full = Full::new(100);
        let precedence = Precedence { wait_max: Duration::from_secs(300), ..PRECEDENCE };
        let asks = |client| Ask { precedence, ..hopeful(client, Priority::Normal) };
        for (id, client) in [(1, "one"), (2, "one"), (3, "other"), (4, "other")] {
            let moment = Moment::new(&full.store, at(id.into()));
            assert_eq!(full.queue.enter(id, asks(client), &no_pause, moment).unwrap(), Turn::Waits);
        }
        let moment = Moment::new(&full.store, s(61));
        let Some((1, Turn::Goes { seat: Some(seat), .. })) = full.queue.round(&no_pause, moment).pop() else {
            panic!()
        };
        undo(moment, &seat).unwrap();
        let pause = |_: Lane| Duration::from_secs(1);
        // It waits until it would have.
        let precedence = Precedence { wait_max: at(1) + precedence.wait_max - s(61), ..precedence };
        let ask = Ask { precedence, ..asks("one") };
        let turn = full.queue.come_back(1, ask, had_turn, &pause, moment).unwrap();
        assert_eq!(turn, Turn::Waits, "{had_turn}");
        // Whose turn it was has it still; who had none waits for his client's next one.
        let next = if had_turn { 1 } else { 3 };
        assert_eq!(round(&mut full.queue, &full.store, s(63)), (vec![next], vec![]), "{had_turn}");
    }
}

#[test]
fn who_comes_later_has_saved_nothing_up() {
    let client = Client { name: 0, tokens: 5, waiting: 40, from_s: 0, at: &[1] };
    let until = |until_s| got(&[client, Client { name: 1, from_s: 300, ..client }], until_s);
    let (first, second) = (until(300), until(600));
    assert_eq!(first[1], 0);
    assert!(second[0].abs_diff(first[0]).abs_diff(second[1]) <= 100, "{first:?} {second:?}");
}

#[test]
fn a_clients_turn_at_one_capacity_is_not_spent_at_another() {
    let client = |name, tokens, waiting, at| Client { name, tokens, waiting, from_s: 0, at };
    // It takes much there, with each request.
    let got = got(&[client(0, 50, 4, &[1]), client(0, 5, 40, &[2]), client(1, 5, 40, &[2])], 300);
    assert!(got[1].abs_diff(got[2]) <= 110 && got[0] > 2500, "{got:?}");
}

#[test]
fn clients_that_wait_for_several_capacities_share_them_all() {
    let client = |name, waiting, at| Client { name, tokens: 5, waiting, from_s: 0, at };
    let got = got(&[client(0, 80, &[1, 2]), client(1, 40, &[1, 2])], 300);
    assert!(got[0].abs_diff(got[1]) <= 210 && got[0] > 2500, "{got:?}");
    // Whoever may go elsewhere too passes nobody by that.
    let got = self::got(
        &[client(0, 80, &[1, 2]), client(0, 80, &[2]), client(1, 40, &[2]), client(2, 40, &[1])],
        300,
    );
    assert!(got[2] >= 1200 && got[3] >= 1200, "{got:?}");
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, cases: 24, ..ProptestConfig::default() })]

    #[test]
    fn equals_share_by_client_and_not_by_number_of_requests(
        clients in prop::collection::vec((1..40u64, 0..30usize), 2..5),
    ) {
        // Each has enough for a whole window at any time, and some have much more.
        let client = |(name, (tokens, more)): (usize, (u64, usize))| {
            let waiting = 100_usize.div_ceil(tokens as usize) + more;
            Client { name, tokens, waiting, from_s: 0, at: &[1] }
        };
        let clients: Vec<Client> = clients.into_iter().enumerate().map(client).collect();
        let got = got(&clients, 200);
        let largest = clients.iter().map(|client| client.tokens).max().unwrap();
        let [least, most] = [got.iter().min().unwrap(), got.iter().max().unwrap()];
        // What went before anybody waited is nobody's turn: a window.
        prop_assert!(most - least <= 100 + 2 * largest, "{:?} of {:?}", got, clients);
        prop_assert!(got.iter().sum::<u64>() >= 1200, "{:?}", got);
    }
}
