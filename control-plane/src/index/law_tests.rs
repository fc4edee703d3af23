//! The law of a fold that asks only who has something new to say: it comes to what it would if it asked everybody.

use std::collections::BTreeMap;
use std::sync::Arc;

use proptest::prelude::*;

use super::Index;
use crate::source::{FileContent, FileFault, FileText, Reading, UnknownFolder};

#[derive(Clone, Debug)]
enum Edit {
    /// Backends by their name and port; port 0 is not valid. `broken`: a syntax error comes after them.
    Write {
        docs: Vec<(u8, u16)>,
        broken: bool,
    },
    Empty,
    Unreadable,
    Delete,
    Rename(usize),
    /// One folder of two, or all of them, cannot be listed in this reading.
    OutOfSight {
        root: bool,
    },
}

const FILES: usize = 4;

fn edits() -> impl Strategy<Value = Vec<(usize, Edit)>> {
    let docs = prop::collection::vec((0u8..5, 0u16..3), 0..4);
    let edit = prop_oneof![
        6 => (docs, prop::bool::weighted(0.3)).prop_map(|(docs, broken)| Edit::Write { docs, broken }),
        1 => Just(Edit::Empty),
        1 => Just(Edit::Unreadable),
        2 => Just(Edit::Delete),
        2 => (0..FILES).prop_map(Edit::Rename),
        1 => any::<bool>().prop_map(|root| Edit::OutOfSight { root }),
    ];
    prop::collection::vec((0..FILES, edit), 1..25)
}

/// Names are shared between files, so that these dispute about them.
fn text(docs: &[(u8, u16)], broken: bool) -> String {
    let doc = |(name, port): &(u8, u16)| {
        format!(
            "apiVersion: tidegate.io/v1alpha1\nkind: Backend\nmetadata: {{name: b{name}}}\nspec:\n  \
             endpoints: [{{address: 127.0.0.1, port: {port}}}]\n---\n"
        )
    };
    docs.iter().map(doc).collect::<String>() + if broken { "kind: [Backend\n" } else { "" }
}

fn path(file: usize) -> Arc<str> {
    format!("p/{}/{file}.yaml", ["a", "b"][file % 2]).into()
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 400, ..ProptestConfig::default() })]

    #[test]
    fn to_ask_only_the_files_that_changed_comes_to_the_same_as_to_ask_all(edits in edits()) {
        let (mut some, mut all) = (Index::default(), Index { asks_all: true, ..Index::default() });
        let mut files = BTreeMap::new();
        for (file, edit) in edits {
            let mut reading = Reading { root_listed: true, ..Reading::default() };
            let mut put = |body| drop(files.insert(path(file), body));
            match &edit {
                Edit::Write { docs, broken } => put(Ok(FileText::new(text(docs, *broken)))),
                Edit::Empty => put(Ok(FileText::new(""))),
                Edit::Unreadable => put(Err(FileFault::Unreadable("denied".into()))),
                Edit::Delete => drop(files.remove(&path(file))),
                Edit::Rename(to) => {
                    if let Some(body) = files.remove(&path(file)) {
                        files.insert(path(*to), body);
                    }
                }
                Edit::OutOfSight { root: true } => reading.root_listed = false,
                Edit::OutOfSight { root: false } => {
                    reading.unknown.push(UnknownFolder { path: "p/a".into(), reason: "denied".into() });
                }
            }
            let seen = |path: &Arc<str>| match &edit {
                Edit::OutOfSight { root } => !root && !path.starts_with("p/a/"),
                _ => true,
            };
            let seen = files.iter().filter(|(path, _)| seen(path));
            reading.files = seen.map(|(path, body)| FileContent { path: path.clone(), body: body.clone() }).collect();
            let changed = (some.update(&reading), all.update(&reading));
            prop_assert_eq!(changed.0, changed.1, "after {:?}", edit);
            prop_assert_eq!(some.objects(), all.objects(), "after {:?}", edit);
            prop_assert_eq!(some.diagnostics(), all.diagnostics());
            prop_assert_eq!(some.is_incomplete(), all.is_incomplete());
            let replaced = |index: &Index| index.replaced().iter().map(|(key, _)| key.clone()).collect::<Vec<_>>();
            prop_assert_eq!(replaced(&some), replaced(&all));
        }
    }
}
