use std::collections::VecDeque;
use std::sync::Arc;

use rustls::client::WebPkiServerVerifier;
use rustls::client::danger::ServerCertVerifier;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};

use super::*;

fn names() -> Vec<String> {
    vec![String::from("tidegate.mesh.svc")]
}

/// As an API server with this bundle would judge.
fn trusts(bundle: &str, keys: &Keys, now: Duration) -> bool {
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let mut roots = rustls::RootCertStore::empty();
    for root in CertificateDer::pem_slice_iter(bundle.as_bytes()) {
        roots.add(root.unwrap()).unwrap();
    }
    let verifier = WebPkiServerVerifier::builder_with_provider(roots.into(), provider).build().unwrap();
    let served = CertificateDer::from_pem_slice(keys.serving().0.as_bytes()).unwrap();
    let name = ServerName::try_from("tidegate.mesh.svc").unwrap();
    verifier.verify_server_cert(&served, &[], &name, &[], UnixTime::since_unix_epoch(now)).is_ok()
}

#[test]
fn for_years_whatever_is_served_is_trusted_by_whoever_read_a_bundle_lately() {
    let table = Timetable::default();
    let start = Duration::from_secs(1_800_000_000);
    let mut keys = advance(None, &names(), start, &table).unwrap().unwrap();
    let (mut authorities, mut servings) = (vec![keys.authority.clone()], 1);
    // Every fourth hour, and every other minute while an authority is replaced.
    let mut now = start;
    let mut lately = VecDeque::from([(now, keys.bundle(), keys.clone())]);
    while now < start + DAY * 1600 {
        now += if keys.next.is_some() { Duration::from_secs(120) } else { DAY / 6 };
        if let Some(next) = advance(Some(&keys), &names(), now, &table).unwrap() {
            servings += usize::from(next.serving != keys.serving);
            keys = next;
            if authorities.last() != Some(&keys.authority) {
                authorities.push(keys.authority.clone());
            }
            lately.push_back((now, keys.bundle(), keys.clone()));
            // A bundle that is five minutes old trusts what is served now, and the newest what was served then.
            while lately.len() > 1 && lately[1].0 + Duration::from_secs(300) <= now {
                lately.pop_front();
            }
            for (at, bundle, served) in &lately {
                assert!(trusts(bundle, &keys, now), "the bundle of {at:?} at {now:?}");
                assert!(trusts(&keys.bundle(), served, now), "what was served at {at:?}, at {now:?}");
            }
        }
    }
    assert!(authorities.len() == 3 && servings > 20, "{} {servings}", authorities.len());
}

#[test]
fn nothing_is_replaced_before_its_time_and_new_names_are_signed_at_once() {
    let table = Timetable::default();
    let now = Duration::from_secs(1_800_000_000);
    let keys = advance(None, &names(), now, &table).unwrap().unwrap();
    assert_eq!(advance(Some(&keys), &names(), now + DAY, &table).unwrap(), None);
    let other = vec![String::from("other.mesh.svc")];
    let renamed = advance(Some(&keys), &other, now + DAY, &table).unwrap().unwrap();
    assert_eq!(renamed.authority, keys.authority);
    assert!(!trusts(&keys.bundle(), &renamed, now + DAY));
}

#[test]
fn keys_that_nobody_kept_in_time_are_made_anew() {
    let table = Timetable::default();
    let now = Duration::from_secs(1_800_000_000);
    let keys = advance(None, &names(), now, &table).unwrap().unwrap();
    let later = now + table.authority + DAY;
    let fresh = advance(Some(&keys), &names(), later, &table).unwrap().unwrap();
    assert!(trusts(&fresh.bundle(), &fresh, later) && !trusts(&keys.bundle(), &fresh, later));
}
