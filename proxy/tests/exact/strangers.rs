//! Who answers at the store's address is no Redis.

use std::time::Duration;

use tidegate_proxy::limits::NoAnswer;
use tidegate_proxy::limits::exact::{Wanted, key};
use tidegate_proxy::limits::store::ExactStore;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;

const LONG: Duration = Duration::from_secs(20);

/// The first question to somebody who says `words` and closes; without words, who says nothing and holds on.
async fn asked(words: Option<&'static [u8]>, timeout: Duration) -> (ExactStore, NoAnswer) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = format!("redis://{}", listener.local_addr().unwrap());
    tokio::spawn(async move {
        let mut held = Vec::new();
        while let Ok((mut stream, _)) = listener.accept().await {
            let Some(words) = words else {
                held.push(stream);
                continue;
            };
            let mut question = [0; 4096];
            let _ = stream.read(&mut question).await;
            let _ = stream.write_all(words).await;
        }
    });
    let store = ExactStore::new(&address).unwrap();
    let why = store.spend(&[wanted()], timeout).await.unwrap_err();
    (store, why)
}

fn wanted() -> Wanted {
    Wanted::new(key("shop/p", "a", &[]), (1, Duration::from_secs(1)), 1, 1).unwrap()
}

#[tokio::test]
async fn one_that_speaks_something_else_is_no_answer() {
    for words in
        [&b"HTTP/1.1 400 Bad Request\r\n\r\n"[..], b"$-5\r\n", b"*999999999\r\n", b"+OK\r\n+OK\r\n+OK\r\n"]
    {
        let (store, why) = asked(Some(words), LONG).await;
        assert_eq!(why, NoAnswer::Failed);
        assert_eq!(store.counted().failed, 1);
    }
}

#[tokio::test]
async fn one_that_accepts_and_says_nothing_is_given_up_in_time() {
    let (store, why) = asked(None, Duration::from_millis(5)).await;
    assert_eq!(why, NoAnswer::TimedOut);
    assert_eq!((store.counted().timed_out, store.counted().fell_back), (1, 1));
}

#[tokio::test]
async fn one_that_is_not_there_is_asked_a_few_times_and_then_no_more() {
    let closed = TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap();
    let store = ExactStore::new(&format!("redis://{closed}")).unwrap();
    while !store.is_open() {
        assert_eq!(store.spend(&[wanted()], LONG).await, Err(NoAnswer::Failed));
    }
    let counted = store.counted();
    assert_eq!((counted.asked, counted.failed), (5, 5));
}
