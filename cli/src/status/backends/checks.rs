//! What a proxy's health checks say of one backend.

use tidegate_policy::health::check::{CheckReport, HealthReport};

use super::{span, table};

/// Its policy, and a row for each check of each endpoint.
pub(super) fn section(report: &HealthReport, colour: bool) -> String {
    let HealthReport { backend, policy, source, mode, healthy_endpoints, all_endpoints, .. } = report;
    let mut out = format!("{backend}  {policy} ({source}, {mode:?})  {healthy_endpoints} of {all_endpoints}");
    out += " endpoints healthy";
    if report.ignored {
        out += ", so few that health is ignored";
    }
    if !report.checked {
        out += ", not checked while nobody calls";
    }
    out.push('\n');
    let headings = ["ENDPOINT", "CHECK", "STATE", "SINCE", "NEXT", "WRITTEN AT", "WHY"].map(str::to_owned);
    let rows: Vec<_> = report.endpoints.iter().map(row).collect();
    if !rows.is_empty() {
        out += &table(&headings, &rows, colour);
    }
    out
}

fn row(check: &CheckReport) -> (bool, [String; 7]) {
    let or_none = |cell: Option<String>| cell.unwrap_or_else(|| String::from("-"));
    let ago = check.last_failure_seconds_ago.map(|ago| format!(", {} ago", span(ago))).unwrap_or_default();
    let cells = [
        check.endpoint.clone(),
        check.check.clone(),
        check.state.clone(),
        or_none(check.for_seconds.map(span)),
        or_none(check.next_check_in_seconds.map(|next| format!("in {}", span(next)))),
        check.source.clone(),
        or_none(check.last_failure.as_ref().map(|why| format!("{why}{ago}"))),
    ];
    (check.state == "unhealthy", cells)
}

#[cfg(test)]
mod tests {
    use super::*;
    use tidegate_policy::model::Mode;

    fn check(endpoint: &str, state: &str) -> CheckReport {
        let failed = state == "unhealthy";
        CheckReport {
            endpoint: endpoint.into(),
            check: "ready".into(),
            source: "health.yaml:9".into(),
            state: state.into(),
            for_seconds: failed.then_some(75.0),
            last_failure: failed.then(|| "status: it answers 503".into()),
            last_failure_seconds_ago: failed.then_some(2.0),
            next_check_in_seconds: Some(3.0),
        }
    }

    fn report() -> HealthReport {
        HealthReport {
            policy: "shop/checkout-health".into(),
            source: "health.yaml:1".into(),
            mode: Mode::Enforce,
            backend: "shop/checkout:8080".into(),
            checked: true,
            healthy_endpoints: 1,
            all_endpoints: 2,
            ignored: false,
            endpoints: vec![check("10.0.0.1:80", "healthy"), check("10.0.0.2:80", "unhealthy")],
        }
    }

    #[test]
    fn who_is_unhealthy_is_told_with_the_line_since_when_why_and_when_it_is_asked_again() {
        let text = section(&report(), true);
        for part in [
            "shop/checkout:8080  shop/checkout-health (health.yaml:1, Enforce)  1 of 2 endpoints healthy\n",
            "10.0.0.2:80  ready  unhealthy  1m 15s  in 3.0s  health.yaml:9  status: it answers 503, 2.0s ago",
            "10.0.0.1:80  ready  healthy    -       in 3.0s  health.yaml:9  -",
        ] {
            assert!(text.contains(part), "{part} is not in\n{text}");
        }
        assert_eq!(text.matches("\x1b[31m").count(), 1, "{text}");
    }

    #[test]
    fn health_that_is_ignored_or_not_asked_for_says_so() {
        let text = section(&HealthReport { ignored: true, checked: false, ..report() }, false);
        assert!(text.contains("so few that health is ignored, not checked while nobody calls"), "{text}");
    }

    #[test]
    fn what_a_proxy_says_is_read_as_it_was_meant() {
        let page = serde_json::json!({"circuit_breakers": [], "health_checks": [report()]});
        let read: super::super::Page = serde_json::from_value(page).unwrap();
        assert_eq!(read.health_checks, [report()]);
        let older: super::super::Page =
            serde_json::from_value(serde_json::json!({"circuit_breakers": []})).unwrap();
        assert_eq!(older.health_checks, []);
    }
}
