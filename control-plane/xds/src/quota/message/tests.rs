use super::*;

use proptest::prelude::*;

const NOW: Duration = Duration::from_secs(77);

fn names(pairs: &[(&str, &str)]) -> Names {
    pairs.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect()
}

fn some_names() -> impl Strategy<Value = Names> {
    prop::collection::btree_map(".{0,8}", ".{0,8}", 0..4)
}

fn some_version() -> impl Strategy<Value = Version> {
    any::<(u64, u64)>().prop_map(|(epoch, number)| Version { epoch, number })
}

fn some_share() -> impl Strategy<Value = Share> {
    (0..=1_000_000_000_u64).prop_map(Share::billionths)
}

fn some_time() -> impl Strategy<Value = Duration> {
    any::<u64>().prop_map(Duration::from_nanos)
}

prop_compose! {
    fn some_report(client: ClientId)(
        names in some_names(),
        stamp in some_time(),
        held in prop::option::of((some_version(), some_share())),
        (allowed, denied, returned) in any::<(u64, u64, u64)>(),
        elapsed in 0..=LONGEST_ELAPSED.as_secs() * 1_000_000_000,
        leaves in any::<bool>(),
    ) -> (Names, Report) {
        let usage = Usage { allowed, denied, elapsed: Duration::from_nanos(elapsed) };
        let held = held.map(|(version, share)| Held { version, share });
        let (bucket, returned) = (bucket_id("d", &names), Tokens(returned));
        (names, Report { client, bucket, stamp, held, usage, returned, leaves })
    }
}

prop_compose! {
    fn some_assignment()(
        names in some_names(),
        version in some_version(),
        share in some_share(),
        (ttl, reuse, stamp) in (some_time(), some_time(), some_time()),
        (client, tokens, renews) in any::<(u64, u64, bool)>(),
    ) -> (Names, Assignment) {
        let (bucket, terms, tokens) = (bucket_id("d", &names), Terms { ttl, reuse }, Tokens(tokens));
        (names, Assignment { client, bucket, version, share, terms, tokens, stamp, renews })
    }
}

proptest! {
    #[test]
    fn reports_arrive_as_they_were_sent(sent in prop::collection::vec(some_report(5), 0..5)) {
        let bytes = usage_reports("d", &sent).encode_to_vec();
        let message = RateLimitQuotaUsageReports::decode(&*bytes).unwrap();
        prop_assert_eq!(domain(&message), Some("d"));
        prop_assert_eq!(client(&message), (!sent.is_empty()).then_some(5));
        prop_assert_eq!(reports(&message, "d", 5, NOW), sent);
    }

    #[test]
    fn assignments_arrive_as_they_were_sent(sent in prop::collection::vec(some_assignment(), 0..5)) {
        let message = RateLimitQuotaResponse::decode(&*response(&sent).encode_to_vec()).unwrap();
        let sent: Vec<Assignment> = sent.into_iter().map(|(_, assignment)| assignment).collect();
        prop_assert_eq!(assignments(&message, "d"), sent);
        prop_assert_eq!(abandoned(&message, "d"), []);
    }

    #[test]
    fn whatever_bytes_decode_to_is_read_without_a_fault(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
        if let Ok(message) = RateLimitQuotaUsageReports::decode(&*bytes) {
            prop_assert!(reports(&message, "d", 1, NOW).len() <= message.bucket_quota_usages.len());
            prop_assert!(relayed_reports(&message, "d").len() <= message.bucket_quota_usages.len());
        }
        if let Ok(message) = RateLimitQuotaResponse::decode(&*bytes) {
            prop_assert!(assignments(&message, "d").len() <= message.bucket_action.len());
            let leases = message.bucket_action.iter().filter(|action| lease(action).is_some()).count();
            let parts = by_client(message);
            prop_assert_eq!(parts.values().map(|part| part.bucket_action.len()).sum::<usize>(), leases);
        }
    }
}

proptest! {
    #[test]
    fn a_server_relays_for_many_clients_and_gives_each_its_own_answers(
        sent in prop::collection::vec((1..4_u64).prop_flat_map(some_report), 0..9),
        given in prop::collection::vec(some_assignment(), 0..9),
    ) {
        prop_assert_eq!(relayed_reports(&usage_reports("d", &sent), "d"), sent);
        let few = |(names, assignment): (Names, Assignment)| {
            (names, Assignment { client: assignment.client % 3, ..assignment })
        };
        let given: Vec<_> = given.into_iter().map(few).collect();
        for (client, part) in by_client(response(&given)) {
            let theirs: Vec<_> = given.iter().filter(|(_, given)| given.client == client).cloned().collect();
            prop_assert_eq!(named_assignments(&part, "d"), theirs);
        }
    }
}

#[test]
fn of_what_a_server_relays_only_leases_say_whose_they_are() {
    let plain = BucketQuotaUsage {
        bucket_id: Some(BucketNames { bucket: names(&[("user", "ann")]) }),
        ..BucketQuotaUsage::default()
    };
    let message = RateLimitQuotaUsageReports { bucket_quota_usages: vec![plain], ..Default::default() };
    assert_eq!(relayed_reports(&message, "d"), []);
    assert!(by_client(abandon([&names(&[("user", "ann")])])).is_empty());
}

#[test]
fn a_bucket_is_told_by_its_domain_and_by_names_and_values_in_their_order() {
    let id = |domain, pairs| bucket_id(domain, &names(pairs));
    let both = id("edge", &[("b", "2"), ("a", "1")]);
    assert_eq!(both, BucketId::of(["edge", "a", "1", "b", "2"].map(str::as_bytes)));
    assert_ne!(both, id("mesh", &[("a", "1"), ("b", "2")]));
    assert_ne!(both, id("edge", &[("a", "2"), ("b", "1")]));
}

#[test]
fn a_plain_envoy_reports_usage_at_the_servers_time_and_holds_nothing_that_is_known() {
    let usage = BucketQuotaUsage {
        bucket_id: Some(BucketNames { bucket: names(&[("user", "ann")]) }),
        time_elapsed: Some(prost_types::Duration { seconds: 5, nanos: 0 }),
        num_requests_allowed: 3,
        num_requests_denied: 4,
        ..BucketQuotaUsage::default()
    };
    let message = RateLimitQuotaUsageReports { bucket_quota_usages: vec![usage], ..Default::default() };
    assert_eq!((domain(&message), client(&message)), (None, None));
    let [(read_names, report)] = reports(&message, "edge", 9, NOW).try_into().unwrap();
    assert_eq!((report.bucket, report.client), (bucket_id("edge", &read_names), 9));
    let usage = Usage { allowed: 3, denied: 4, elapsed: Duration::from_secs(5) };
    assert_eq!((report.stamp, report.held, report.usage), (NOW, None, usage));
    assert_eq!((report.returned, report.leaves), (Tokens::NONE, false));
}

#[test]
fn reports_of_another_client_and_of_no_bucket_are_left_out() {
    let report = |client| Report {
        client,
        bucket: BucketId([0; 16]),
        stamp: NOW,
        held: None,
        usage: Usage::default(),
        returned: Tokens::NONE,
        leaves: false,
    };
    let mut message = usage_reports("d", &[(Names::new(), report(1)), (Names::new(), report(2))]);
    message.bucket_quota_usages.push(BucketQuotaUsage::default());
    assert_eq!(reports(&message, "d", 2, NOW).len(), 1);
}

#[test]
fn an_elapsed_time_that_cannot_be_is_none_and_one_without_end_is_a_day() {
    let elapsed = |seconds, nanos| {
        let time_elapsed = Some(prost_types::Duration { seconds, nanos });
        used(&BucketQuotaUsage { time_elapsed, ..BucketQuotaUsage::default() }).elapsed
    };
    assert_eq!(elapsed(-1, 0), Duration::ZERO);
    assert_eq!(elapsed(i64::MAX, i32::MAX), LONGEST_ELAPSED);
}

#[test]
fn an_assignment_without_a_lease_or_a_version_is_not_ours() {
    let assigned = |lease| {
        let action = QuotaAssignmentAction { lease, ..QuotaAssignmentAction::default() };
        super::action(&Names::new(), Action::QuotaAssignmentAction(action))
    };
    let unknown = BucketAction { bucket_id: None, bucket_action: None };
    let actions = vec![assigned(None), assigned(Some(LeaseAssignment::default())), unknown];
    assert_eq!(assignments(&RateLimitQuotaResponse { bucket_action: actions }, "d"), []);
}

#[test]
fn a_long_answer_is_split_into_messages_that_are_not_and_nothing_is_lost() {
    let names: Vec<Names> = (0..9).map(|i| names(&[("name", &format!("{i}-{}", "x".repeat(90)))])).collect();
    let whole = abandon(&names);
    let parts = split(whole.clone(), 300);
    assert!(parts.len() > 3 && parts.iter().all(|part| part.encoded_len() < 320));
    let actions = parts.into_iter().flat_map(|part| part.bucket_action);
    assert_eq!(actions.collect::<Vec<_>>(), whole.bucket_action);
    assert_eq!(split(whole, 1).len(), 9, "one that is too large goes alone");
    assert_eq!(split(RateLimitQuotaResponse::default(), 1), []);
}

#[test]
fn an_abandoned_bucket_is_told_to_anybody() {
    let names = names(&[("user", "ann")]);
    let message = abandon([&names]);
    assert_eq!(abandoned(&message, "d"), [bucket_id("d", &names)]);
    assert_eq!(assignments(&message, "d"), []);
}
