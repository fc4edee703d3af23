use super::*;
use profile::Profile;

const PROFILE: &str = "
about: A sale begins
duration: 100s
clients:
- request: GET http://shop.example/item/{key}
  headers: {x-user: '{key}'}
  rate: 50
  key: {count: 1000, zipf: 1.1, prefix: user-, clientAddress: true}
- request: POST http://shop.example/cart
  headers: {x-user: shop}
  rate: 1
  arrivals: Even
backends:
- backend: shop/cart:80
  latency: {type: Lognormal, median: 20ms, p99: 100ms}
  failPercent: 10
  outages: [{from: 50s, to: 60s}]
";

fn parse(text: &str) -> Result<Profile, Vec<String>> {
    let told = |all: Vec<document::Diagnostic>| all.iter().map(ToString::to_string).collect();
    Profile::parse(&Arc::from("p.yaml"), text).map_err(told)
}

fn run(text: &str, plan: &Plan, seed: u64) -> Tally {
    let profile = parse(text).unwrap();
    let mut traffic = profile.traffic(seed).unwrap();
    let answers = Answers::by(profile.models(), traffic.began());
    let mut simulator = Simulator::new(plan, answers, seed);
    let mut request = Request::default();
    while traffic.next(&mut request) {
        simulator.push(&mut request);
    }
    simulator.finish();
    simulator.into_tally()
}

#[test]
fn a_profile_sends_as_often_and_backends_answer_as_it_says() {
    let plan = plan(&policy(
        "RateLimitPolicy",
        "  limits: [{name: each, requests: 2, per: 1s, key: [{type: Header, name: x-user}]}]",
    ));
    let tally = run(PROFILE, &plan, 3);
    let all = tally.sum(Column::Requests);
    assert!((4_700..=5_500).contains(&all), "{all}");
    let top = tally.rules[0].keys.as_ref().unwrap().0.top(1);
    // The share of the first of a thousand is one in six: seven of fifty a second.
    assert_eq!(top[0].0, "user-1", "{top:?}");
    let failed = tally.sum(Column::Failed) as f64 / tally.calls as f64;
    assert!((0.15..0.25).contains(&failed), "a tenth always, all for a tenth of the time: {failed}");
    assert_eq!(run(PROFILE, &plan_again(), 3).statuses, run(PROFILE, &plan_again(), 3).statuses);
    assert_ne!(run(PROFILE, &plan_again(), 3).statuses, run(PROFILE, &plan_again(), 4).statuses);
}

fn plan_again() -> Plan {
    plan("")
}

#[test]
fn rates_go_in_a_line_and_bursts_come_and_go() {
    let text = "
duration: 100s
clients:
- {request: GET http://shop.example/, rate: 0, rates: [{at: 10s, rate: 0}, {at: 90s, rate: 100}]}
";
    let tally = run(text, &plan(""), 5);
    let counts: Vec<_> = tally.series.column(0).collect();
    let all: u64 = counts.iter().sum();
    assert!((4_600..5_400).contains(&all), "{all}");
    assert!(counts[..10].iter().sum::<u64>() < counts[60..70].iter().sum::<u64>() / 5, "{counts:?}");

    let bursts = "
duration: 1000s
clients: [{request: GET http://shop.example/, rate: 10, bursts: {on: 1s, off: 9s}}]
";
    let all = run(bursts, &plan(""), 5).sum(Column::Requests);
    assert!((600..1_500).contains(&all), "a tenth of the time: {all}");
}

#[test]
fn what_is_wrong_with_a_profile_is_told_at_once_with_its_line() {
    let wrong = parse(
        "
duration: 10s
clients:
- {request: GET http://a/, rate: 5, ratee: 1}
- {request: GET http://a/, rate: -5}
backends: [{backend: '*', latency: {type: Gamma}}]
",
    )
    .unwrap_err();
    assert!(
        wrong.len() >= 3 && wrong.iter().any(|e| e.starts_with("p.yaml:4:") && e.contains("rate")),
        "{wrong:?}"
    );
    let wrong = parse(
        "
duration: 0s
clients: [{request: GET http://a/, rate: 5, rates: [{at: 2s, rate: 1}, {at: 1s, rate: 1}]}]
backends:
- {backend: a, outages: [{from: 2s, to: 1s}]}
- {backend: a, latency: {type: Lognormal, median: 2s, p99: 1s}}
",
    )
    .unwrap_err();
    assert_eq!(wrong.len(), 5, "{wrong:?}");
    let request = |request: &str| {
        let text = format!("duration: 1s\nclients: [{{request: '{request}', rate: 1}}]");
        parse(&text).unwrap().traffic(1).unwrap_err()
    };
    assert!(request("GET").contains("a method and an URL"));
    assert!(request("GET /x").contains("scheme and host"));
}
