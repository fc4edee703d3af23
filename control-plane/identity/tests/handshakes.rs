//! Who is let in, and who is believed: handshakes without a network, on a clock of the test's.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking, in its set-up too")]

use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use rustls::time_provider::TimeProvider;
use rustls::{ClientConnection, ServerConnection};
use rustls_pki_types::UnixTime;
use tidegate_identity::dial::nobody;
use tidegate_identity::request::KeyRequest;
use tidegate_identity::tls::{self, Clients, Expected};
use tidegate_identity::{Authority, Credentials, Held, Lifetimes, Material, SpiffeId, TrustDomain};

const DAY: Duration = Duration::from_secs(24 * 60 * 60);

fn start() -> SystemTime {
    UNIX_EPOCH + Duration::from_secs(1_800_000_000)
}

#[derive(Debug)]
struct At(SystemTime);

impl TimeProvider for At {
    fn current_time(&self) -> Option<UnixTime> {
        Some(UnixTime::since_unix_epoch(self.0.duration_since(UNIX_EPOCH).ok()?))
    }
}

fn domain(name: &str) -> TrustDomain {
    name.parse().unwrap()
}

fn authority() -> Authority {
    Authority::read(&Material::generate(&domain("a.example"), start()).unwrap(), Lifetimes::default())
        .unwrap()
}

fn id(domain_name: &str, account: &str) -> SpiffeId {
    SpiffeId::new(domain(domain_name), "shop", account).unwrap()
}

/// Somebody with a certificate from the start, whose clock says `now`.
fn somebody(authority: &Authority, id: &SpiffeId, now: SystemTime) -> Arc<Held> {
    let request = KeyRequest::new().unwrap();
    let issued = authority.issue(&request.csr, id, Duration::ZERO, start()).unwrap();
    let then = Held::with_clock(id.trust_domain.clone(), Arc::new(At(start())));
    let held = Held::with_clock(id.trust_domain.clone(), Arc::new(At(now)));
    held.replace(Credentials::read(&issued.chain, &issued.bundle, request.key(), &then).unwrap());
    Arc::new(held)
}

/// Whether the two come to terms: the client's word, then the server's.
fn shake(client: &Arc<Held>, server: &Arc<Held>, clients: Clients, expected: &[SpiffeId]) -> (bool, bool) {
    let server = tls::server(server, clients, &[b"x"]);
    let client = tls::client(client, Expected(expected.to_vec()), None, &[b"x"]);
    let mut server = ServerConnection::new(Arc::new(server)).unwrap();
    let mut client = ClientConnection::new(Arc::new(client), nobody()).unwrap();
    let (mut well, mut bytes) = ((true, true), Vec::new());
    for _ in 0..8 {
        bytes.clear();
        while client.wants_write() {
            client.write_tls(&mut bytes).unwrap();
        }
        let mut rest = &*bytes;
        while well.1 && !rest.is_empty() && server.read_tls(&mut rest).is_ok() {
            well.1 &= server.process_new_packets().is_ok();
        }
        bytes.clear();
        while server.wants_write() {
            server.write_tls(&mut bytes).unwrap();
        }
        let mut rest = &*bytes;
        while well.0 && !rest.is_empty() && client.read_tls(&mut rest).is_ok() {
            well.0 &= client.process_new_packets().is_ok();
        }
    }
    (well.0 && !client.is_handshaking(), well.1 && !server.is_handshaking())
}

#[test]
fn two_of_one_trust_domain_come_to_terms() {
    let authority = authority();
    let (web, cart) = (id("a.example", "web"), id("a.example", "cart"));
    let (client, server) = (somebody(&authority, &web, start()), somebody(&authority, &cart, start()));
    for expected in [&[][..], std::slice::from_ref(&cart), &[web.clone(), cart.clone()]] {
        assert_eq!(shake(&client, &server, Clients::Named, expected), (true, true), "{expected:?}");
    }
    assert!(!shake(&client, &server, Clients::Named, &[web]).0, "it is another one");
}

#[test]
fn a_name_of_another_trust_domain_is_nobodys_even_under_the_same_root() {
    let authority = authority();
    let ours = somebody(&authority, &id("a.example", "cart"), start());
    let theirs = somebody(&authority, &id("b.example", "cart"), start());
    assert!(!shake(&ours, &theirs, Clients::Named, &[]).0, "the server is not of ours");
    // A client that takes anybody for ours: the server decides.
    let fooled = Arc::new(Held::with_clock(domain("a.example"), Arc::new(At(start()))));
    let request = KeyRequest::new().unwrap();
    let issued = authority.issue(&request.csr, &id("b.example", "web"), Duration::ZERO, start()).unwrap();
    let read = Credentials::read(&issued.chain, &issued.bundle, request.key(), &theirs).unwrap();
    fooled.replace(read);
    let (_, taken) = shake(&fooled, &ours, Clients::Named, &[]);
    assert!(!taken, "the client is not of ours");
}

#[test]
fn who_shows_nothing_is_let_in_only_where_that_is_allowed() {
    let authority = authority();
    let server = somebody(&authority, &id("a.example", "cart"), start());
    let bare = somebody(&authority, &id("a.example", "web"), start() + DAY * 2);
    // Its clock is two days on: what it has is over, and it believes nobody's of the first day either.
    assert_eq!(shake(&bare, &server, Clients::Named, &[]), (false, false));
    let server_later = somebody(&authority, &id("a.example", "cart"), start() + DAY * 2);
    let client = somebody(&authority, &id("a.example", "web"), start());
    assert!(
        !shake(&client, &server_later, Clients::Named, &[]).0,
        "a server whose certificate is over shows none"
    );
}

#[test]
fn another_root_is_believed_by_nobody() {
    let (one, other) = (authority(), authority());
    let client = somebody(&one, &id("a.example", "web"), start());
    let server = somebody(&other, &id("a.example", "cart"), start());
    assert!(!shake(&client, &server, Clients::Named, &[]).0);
}
