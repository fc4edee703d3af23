//! What a real Redis counts, and what happens when it does not. Run with `--ignored` where redis-server is installed.

use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use rustix::process::Signal;
use tidegate_proxy::limits::NoAnswer;
use tidegate_proxy::limits::exact::{Level, Told, Wanted, key};
use tidegate_proxy::limits::store::ExactStore;
use tokio::task::JoinSet;

use crate::redis::{Cluster, Redis};

const HOUR: Duration = Duration::from_secs(3600);
/// Far more than a test machine needs for an answer.
const LONG: Duration = Duration::from_secs(20);
const SHORT: Duration = Duration::from_millis(5);

fn wanted(limit: &str, rate: (u32, Duration), burst: u32, cost: u32) -> Wanted {
    Wanted::new(key("shop/p", limit, &[b"ann"]), rate, burst, cost).unwrap()
}

fn proxies(redis: &Redis, count: usize) -> Vec<Arc<ExactStore>> {
    (0..count).map(|_| Arc::new(ExactStore::new(&redis.address()).unwrap())).collect()
}

async fn admitted(store: &ExactStore, wanted: &[Wanted], times: usize) -> usize {
    let mut admitted = 0;
    for _ in 0..times {
        admitted += usize::from(store.spend(wanted, LONG).await.unwrap().allowed);
    }
    admitted
}

/// What several tasks of each proxy let through together.
async fn together(proxies: &[Arc<ExactStore>], wanted: &Wanted, times: usize) -> usize {
    let mut tasks = JoinSet::new();
    for store in proxies.iter().flat_map(|store| [store, store, store, store]) {
        let (store, wanted) = (store.clone(), wanted.clone());
        tasks.spawn(async move { admitted(&store, &[wanted], times).await });
    }
    tasks.join_all().await.into_iter().sum()
}

/// Asks until there is an answer.
async fn once_it_answers(store: &ExactStore, wanted: &Wanted) -> Told {
    loop {
        match store.spend(std::slice::from_ref(wanted), LONG).await {
            Ok(told) => return told,
            Err(_) => tokio::task::yield_now().await,
        }
    }
}

#[tokio::test]
#[ignore = "needs redis-server"]
async fn two_proxies_admit_exactly_the_burst_together() {
    let redis = Redis::start();
    let proxies = proxies(&redis, 2);
    assert_eq!(together(&proxies, &wanted("a", (1, HOUR), 100, 1), 50).await, 100);
    assert!(proxies.iter().all(|store| store.counted().answered == 200));
}

#[tokio::test]
#[ignore = "needs redis-server"]
async fn two_proxies_never_admit_more_than_burst_plus_rate_times_time() {
    let redis = Redis::start();
    let (proxies, start) = (proxies(&redis, 2), Instant::now());
    let passed = together(&proxies, &wanted("a", (500, Duration::from_secs(1)), 20, 1), 400).await;
    let most = 20.0 + 500.0 * start.elapsed().as_secs_f64();
    assert!(passed >= 20 && passed as f64 <= most, "{passed} of {most}");
}

#[tokio::test]
#[ignore = "needs redis-server"]
async fn a_question_that_one_bucket_refuses_spends_nothing_of_the_others() {
    let redis = Redis::start();
    let store = &proxies(&redis, 1)[0];
    let (wide, narrow) = (wanted("wide", (1, HOUR), 10, 2), wanted("narrow", (1, HOUR), 1, 1));
    assert_eq!(admitted(store, &[wide.clone(), narrow.clone()], 5).await, 1);
    let told = store.spend(&[wide.clone(), narrow], LONG).await.unwrap();
    assert_eq!((told.levels[0].remaining, told.levels[0].wait), (8, Duration::ZERO));
    assert!(told.levels[1].wait > HOUR / 2 && told.levels[1].wait <= HOUR);
    assert_eq!(admitted(store, &[wide], 10).await, 4, "8 of 10 were left, at 2 each");
}

#[tokio::test]
#[ignore = "needs redis-server"]
async fn a_changed_rate_keeps_what_was_spent() {
    let redis = Redis::start();
    let store = &proxies(&redis, 1)[0];
    assert_eq!(admitted(store, &[wanted("a", (10, HOUR), 10, 1)], 4).await, 4);
    assert_eq!(admitted(store, &[wanted("a", (20, HOUR), 20, 1)], 50).await, 16, "4 of 20 are spent");
    assert_eq!(admitted(store, &[wanted("a", (5, HOUR), 5, 1)], 50).await, 0, "all of 5 are spent");
}

#[tokio::test]
#[ignore = "needs redis-server"]
async fn nothing_is_left_for_ever() {
    let redis = Redis::start();
    let store = &proxies(&redis, 1)[0];
    admitted(store, &[wanted("a", (1, HOUR), 5, 1), wanted("b", (1, HOUR), 5, 3)], 1).await;
    let keys: Vec<String> = redis.command(&["KEYS", "*"]);
    assert_eq!(keys.len(), 2);
    for key in keys {
        let left: i64 = redis.command(&["PTTL", &key]);
        assert!(left > 0 && left <= 3 * 3_600_000, "{key}: {left}");
    }
}

#[tokio::test]
#[ignore = "needs redis-server"]
async fn a_store_that_lost_its_script_gets_it_again_and_goes_on_counting() {
    let redis = Redis::start();
    let store = &proxies(&redis, 1)[0];
    let wanted = [wanted("a", (1, HOUR), 5, 1)];
    assert_eq!(admitted(store, &wanted, 3).await, 3);
    let () = redis.command(&["SCRIPT", "FLUSH"]);
    assert_eq!(admitted(store, &wanted, 10).await, 2);
    assert_eq!(store.counted().fell_back, 0);
}

#[tokio::test]
#[ignore = "needs redis-server"]
async fn a_store_that_hangs_costs_its_timeout_a_few_times_and_then_nothing() {
    let redis = Redis::start();
    let store = &proxies(&redis, 1)[0];
    let wanted = wanted("a", (1, HOUR), 100, 1);
    once_it_answers(store, &wanted).await;
    redis.signal(Signal::STOP);
    while !store.is_open() {
        assert_eq!(store.spend(std::slice::from_ref(&wanted), SHORT).await, Err(NoAnswer::TimedOut));
    }
    assert_eq!(store.spend(std::slice::from_ref(&wanted), SHORT).await, Err(NoAnswer::Open));
    let counted = store.counted();
    assert_eq!((counted.timed_out, counted.fell_back), (5, 6));
    redis.signal(Signal::CONT);
    let told = once_it_answers(store, &wanted).await;
    assert!(told.levels[0].remaining >= 93, "no question was counted twice: {told:?}");
}

#[tokio::test]
#[ignore = "needs redis-server"]
async fn a_store_that_was_killed_is_found_again_when_it_is_back() {
    let mut redis = Redis::start();
    let store = &proxies(&redis, 1)[0].clone();
    let wanted = wanted("a", (1, HOUR), 100, 1);
    once_it_answers(store, &wanted).await;
    redis.kill();
    assert_eq!(store.spend(std::slice::from_ref(&wanted), LONG).await, Err(NoAnswer::Failed));
    redis.restart();
    assert!(once_it_answers(store, &wanted).await.allowed);
}

#[tokio::test]
#[ignore = "needs redis-server"]
async fn a_store_that_became_a_replica_does_not_answer_until_it_may_write_again() {
    let redis = Redis::start();
    let store = &proxies(&redis, 1)[0];
    let wanted = wanted("a", (1, HOUR), 100, 1);
    once_it_answers(store, &wanted).await;
    let () = redis.command(&["REPLICAOF", "127.0.0.1", "1"]);
    assert_eq!(store.spend(std::slice::from_ref(&wanted), LONG).await, Err(NoAnswer::Failed));
    let () = redis.command(&["REPLICAOF", "NO", "ONE"]);
    let told = once_it_answers(store, &wanted).await;
    assert_eq!(told.levels[0].remaining, 98);
}

#[tokio::test]
#[ignore = "needs redis-server"]
async fn a_key_that_holds_something_else_is_no_answer() {
    let redis = Redis::start();
    let store = &proxies(&redis, 1)[0];
    let () = redis.command(&["SET", &key("shop/p", "a", &[b"ann"]), "tide"]);
    let result = store.spend(&[wanted("a", (1, HOUR), 1, 1)], LONG).await;
    assert_eq!(result, Err(NoAnswer::Failed));
}

#[tokio::test]
#[ignore = "needs redis-server"]
async fn a_bucket_whose_server_went_back_in_time_is_empty_and_not_in_debt() {
    let redis = Redis::start();
    let store = &proxies(&redis, 1)[0];
    // Full again in the year 2200, by the clock of another server.
    let () = redis.command(&["SET", &key("shop/p", "a", &[b"ann"]), "7258118400000000 1000000"]);
    let told = store.spend(&[wanted("a", (1, Duration::from_secs(1)), 5, 1)], LONG).await.unwrap();
    assert_eq!(told.levels, [Level { remaining: 0, wait: Duration::from_secs(1) }]);
}

#[tokio::test]
#[ignore = "needs redis-server"]
async fn a_window_holds_what_is_written_for_all_proxies_and_the_next_one_begins_anew() {
    let redis = Redis::start();
    let proxies = proxies(&redis, 2);
    let end = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap() + HOUR;
    let until = |end: Duration, cost| {
        let key = key("shop/p", "month", &[b"ann", &end.as_secs().to_be_bytes()]);
        Wanted::until(key, 30, end, cost).unwrap()
    };
    assert_eq!(together(&proxies, &until(end, 1), 10).await, 30);
    let told = proxies[0].spend(&[until(end, 1)], LONG).await.unwrap();
    assert!(!told.allowed && told.levels[0].remaining == 0);
    assert!(told.levels[0].wait <= HOUR && told.levels[0].wait > HOUR - LONG * 2, "{told:?}");
    assert_eq!(admitted(&proxies[0], &[until(end + HOUR, 3)], 12).await, 10);
}

#[tokio::test]
#[ignore = "needs redis-server"]
async fn a_window_that_is_full_leaves_the_limits_beside_it_unspent() {
    let redis = Redis::start();
    let store = &proxies(&redis, 1)[0];
    let end = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap() + HOUR;
    let day = Wanted::until(key("shop/p", "day", &[b"ann"]), 2, end, 1).unwrap();
    let limit = wanted("all", (1, HOUR), 5, 1);
    assert_eq!(admitted(store, &[limit.clone(), day.clone()], 4).await, 2);
    let told = store.spend(&[limit.clone(), day], LONG).await.unwrap();
    assert_eq!((told.levels[0].remaining, told.levels[0].wait), (3, Duration::ZERO), "it does not refuse");
    assert_eq!(admitted(store, &[limit], 5).await, 3);
}

#[tokio::test]
#[ignore = "needs redis-server"]
async fn a_cluster_counts_as_one_store_whichever_of_its_nodes_is_known() {
    let cluster = Cluster::start();
    let stores = [0, 1].map(|node| ExactStore::new(&cluster.address(node)).unwrap());
    // Policies are spread over the nodes; all of one is at one node, so that one script may spend it together.
    for policy in (0..16).map(|n| format!("shop/p{n}")) {
        let of =
            |limit: &str, burst| Wanted::new(key(&policy, limit, &[b"ann"]), (1, HOUR), burst, 1).unwrap();
        let wanted = [of("wide", 9), of("narrow", 4)];
        let passed = admitted(&stores[0], &wanted, 3).await + admitted(&stores[1], &wanted, 3).await;
        assert_eq!(passed, 4, "{policy}");
    }
    assert!(cluster.keys().iter().all(|keys| *keys > 0), "{:?}", cluster.keys());
}
