use super::*;

/// Those that take longer get fewer: all together take a second or two without optimisation.
const ROUNDS: [(&str, usize); 3] = [("cases", 500), ("document", 1_000), ("resource", 10_000)];
const MANY: usize = 20_000;

#[test]
fn every_property_holds_for_its_seeds_and_for_thousands_of_bytes_near_them() {
    for (name, property) in ALL {
        let (seeds, mut rng) = (seeds(name), fastrand::Rng::with_seed(2026));
        assert!(!seeds.is_empty(), "{name}");
        for seed in &seeds {
            property(seed);
        }
        let mut pool = seeds.clone();
        let rounds = ROUNDS.iter().find(|(of, _)| *of == name).map_or(MANY, |(_, rounds)| *rounds);
        for round in 0..rounds {
            let (one, other) = (rng.usize(..pool.len()), rng.usize(..pool.len()));
            let bytes = mutate(&pool[one], &pool[other], &mut rng);
            property(&bytes);
            // Some go on from what was made, so that changes add up.
            if round % 16 == 0 {
                let place = rng.usize(..64);
                match pool.get_mut(seeds.len() + place) {
                    Some(old) => *old = bytes,
                    None => pool.push(bytes),
                }
            }
        }
    }
}

/// The seeds are meant to be read: bytes near what is refused at once would find nothing.
#[test]
fn the_seeds_of_documents_cases_and_resources_are_valid() {
    for document in seeds("document") {
        let parsed = document::parse(&Arc::from("seed.yaml"), from_utf8(&document).unwrap());
        assert!(parsed.failed.is_empty() && parsed.complete, "{:?}", parsed.diagnostics);
    }
    for cases in seeds("cases") {
        assert!(cases::parse(&Arc::from("seed.yaml"), from_utf8(&cases).unwrap()).is_ok());
    }
    let wire = seeds("resource");
    assert!(wire.len() > 5, "{}", wire.len());
    for resource in wire {
        let kind = ResourceType::PUSH_ORDER[usize::from(resource[0])];
        assert!(codec::decode_any(kind, &resource[1..]).is_ok(), "{kind:?}");
    }
    assert!(Token::read(&seeds("token")[0]).is_ok());
    assert!(pick::token_again(&seeds("session")[0]).is_some());
    assert_eq!(resolve::pem_blocks(&seeds("pem")[0]).unwrap().len(), 2);
}
