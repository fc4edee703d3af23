use std::collections::BTreeMap;
use std::sync::Arc;

use proptest::prelude::*;
use tidegate_policy::document::ObjectKey;
use tidegate_policy::objects::Object;

use super::{Change, Index};
use crate::source::{FileContent, FileFault, FileText, Reading, UnknownFolder};

fn backend(name: &str, port: u16) -> String {
    format!(
        "apiVersion: tidegate.io/v1alpha1\nkind: Backend\nmetadata:\n  name: {name}\nspec:\n  \
         endpoints:\n  - {{address: 127.0.0.1, port: {port}}}\n---\n"
    )
}

fn file(path: &str, text: &str) -> FileContent {
    FileContent { path: path.into(), body: Ok(FileText::new(text)) }
}

fn reading(files: impl IntoIterator<Item = FileContent>) -> Reading {
    Reading { files: files.into_iter().collect(), unknown: Vec::new(), root_listed: true }
}

fn read(index: &mut Index, files: &[(&str, &str)]) -> Change {
    index.update(&reading(files.iter().map(|(path, text)| file(path, text))))
}

/// Name and port of every Backend in force.
fn in_force(index: &Index) -> BTreeMap<String, u16> {
    let port = |object: &Arc<Object>| match &**object {
        Object::Backend(backend) => (backend.meta.name.name.to_string(), backend.spec.port()),
        other => panic!("not a backend: {other:?}"),
    };
    index.in_force().map(port).collect()
}

fn ports(pairs: &[(&str, u16)]) -> BTreeMap<String, u16> {
    pairs.iter().map(|(name, port)| ((*name).to_owned(), *port)).collect()
}

fn told(index: &Index) -> Vec<String> {
    index.diagnostics().iter().map(ToString::to_string).collect()
}

fn key(name: &str) -> ObjectKey {
    ObjectKey { kind: "Backend".into(), namespace: "default".into(), name: name.into() }
}

#[test]
fn a_refused_object_keeps_its_last_valid_version_and_its_neighbours_change() {
    let mut index = Index::default();
    read(&mut index, &[("p/a.yaml", &(backend("a", 1) + &backend("b", 1)))]);
    let bad = backend("a", 2).replace("port", "prt") + &backend("b", 2);
    let change = read(&mut index, &[("p/a.yaml", &bad)]);
    assert_eq!(change, Change { objects: true, view: true });
    assert_eq!(in_force(&index), ports(&[("a", 1), ("b", 2)]));
    assert!(!index.objects()[&key("a")].current && index.objects()[&key("b")].current);
    assert!(told(&index).iter().any(|t| t.starts_with("p/a.yaml:7:")), "{:?}", told(&index));
    read(&mut index, &[("p/a.yaml", &(backend("a", 3) + &backend("b", 2)))]);
    assert_eq!(in_force(&index), ports(&[("a", 3), ("b", 2)]));
    assert_eq!(told(&index), Vec::<String>::new());
}

#[test]
fn an_object_that_was_never_valid_is_known_but_not_in_force() {
    let mut index = Index::default();
    read(&mut index, &[("p/a.yaml", &backend("a", 1).replace("port", "prt"))]);
    assert_eq!(in_force(&index), ports(&[]));
    let known = &index.objects()[&key("a")];
    assert_eq!((known.object.is_none(), known.current, known.line), (true, false, 1));
}

#[test]
fn what_a_syntax_error_hides_stays() {
    let mut index = Index::default();
    read(&mut index, &[("p/a.yaml", &(backend("a", 1) + &backend("b", 1)))]);
    read(&mut index, &[("p/a.yaml", &(backend("a", 2) + "kind: [Backend\n"))]);
    assert_eq!(in_force(&index), ports(&[("a", 2), ("b", 1)]));
    assert!(!index.objects()[&key("b")].current);
}

#[test]
fn a_mistake_in_the_kind_or_namespace_does_not_remove_the_object() {
    let mut index = Index::default();
    let text = backend("a", 1);
    read(&mut index, &[("p/a.yaml", &text)]);
    for mistake in
        [text.replace("kind: Backend", "kind: Bakend"), text.replace("  name: a", "  name: a\n  nmespace: x")]
    {
        read(&mut index, &[("p/a.yaml", &mistake)]);
        assert_eq!(in_force(&index), ports(&[("a", 1)]), "{mistake}");
        assert!(!index.diagnostics().is_empty());
    }
}

#[test]
fn a_mistake_in_the_name_field_does_not_remove_the_object() {
    let mut index = Index::default();
    read(&mut index, &[("p/a.yaml", &backend("a", 1))]);
    read(&mut index, &[("p/a.yaml", &backend("a", 1).replace("name:", "nme:"))]);
    assert_eq!(in_force(&index), ports(&[("a", 1)]));
}

#[test]
fn an_emptied_file_keeps_its_objects_and_a_deleted_one_does_not() {
    let mut index = Index::default();
    read(&mut index, &[("p/a.yaml", &backend("a", 1))]);
    for text in ["", "\n", "# nothing yet\n---\n"] {
        read(&mut index, &[("p/a.yaml", text)]);
        assert_eq!(in_force(&index), ports(&[("a", 1)]), "{text:?}");
        assert!(told(&index)[0].contains("delete the file to remove it"), "{:?}", told(&index));
    }
    read(&mut index, &[("p/a.yaml", &backend("b", 1))]);
    assert_eq!(in_force(&index), ports(&[("b", 1)]));
    read(&mut index, &[]);
    assert_eq!((in_force(&index), told(&index)), (ports(&[]), vec![]));
}

#[test]
fn a_file_that_cannot_be_read_keeps_its_objects() {
    let mut index = Index::default();
    read(&mut index, &[("p/a.yaml", &backend("a", 1)), ("p/b.yaml", &backend("b", 1))]);
    let fault = FileFault::TooBig { size: 10 << 20, limit: 4 << 20 };
    let broken = FileContent { path: "p/a.yaml".into(), body: Err(fault) };
    let change = index.update(&reading([broken, file("p/b.yaml", &backend("b", 2))]));
    assert!(change.objects);
    assert_eq!(in_force(&index), ports(&[("a", 1), ("b", 2)]));
    assert!(
        told(&index)[0].starts_with("p/a.yaml: error: the file has 10485760 bytes"),
        "{:?}",
        told(&index)
    );
}

#[test]
fn a_directory_that_is_gone_changes_nothing_nor_does_one_that_comes_back_empty() {
    let mut index = Index::default();
    read(&mut index, &[("p/a.yaml", &backend("a", 1)), ("p/x/b.yaml", &backend("b", 1))]);
    let gone = UnknownFolder { path: "p".into(), reason: "No such file or directory".into() };
    let gone = Reading { files: Vec::new(), unknown: vec![gone], root_listed: false };
    let change = index.update(&gone);
    assert_eq!(change, Change { objects: false, view: true });
    assert_eq!(told(&index), ["p: error: No such file or directory (what it held stays in force)"]);
    read(&mut index, &[]);
    assert_eq!(in_force(&index), ports(&[("a", 1), ("b", 1)]));
    assert!(told(&index)[0].contains("came back empty"), "{:?}", told(&index));
    read(&mut index, &[("p/x/b.yaml", &backend("b", 2))]);
    assert_eq!((in_force(&index), told(&index)), (ports(&[("b", 2)]), vec![]));
    read(&mut index, &[]);
    assert_eq!(in_force(&index), ports(&[]));
}

#[test]
fn a_folder_that_cannot_be_listed_keeps_its_objects_only() {
    let mut index = Index::default();
    read(&mut index, &[("p/a.yaml", &backend("a", 1)), ("p/x/b.yaml", &backend("b", 1))]);
    let unknown = vec![UnknownFolder { path: "p/x".into(), reason: "Permission denied".into() }];
    index.update(&Reading { files: Vec::new(), unknown, root_listed: true });
    assert_eq!(in_force(&index), ports(&[("b", 1)]));
}

#[test]
fn of_two_of_one_name_the_first_by_path_counts_and_the_other_names_both_places() {
    let mut index = Index::default();
    let (a, b) = (backend("x", 1), backend("y", 1) + &backend("x", 2));
    read(&mut index, &[("p/a.yaml", &a), ("p/b.yaml", &b)]);
    assert_eq!(in_force(&index), ports(&[("x", 1), ("y", 1)]));
    assert_eq!(told(&index).len(), 1);
    let error = &told(&index)[0];
    assert!(error.starts_with("p/b.yaml:9:1: error") && error.contains("p/a.yaml:1"), "{error}");
    // A mistake in the one that counts does not hand the name over.
    read(&mut index, &[("p/a.yaml", &a.replace("port", "prt")), ("p/b.yaml", &b)]);
    assert_eq!(in_force(&index)["x"], 1);
    read(&mut index, &[("p/b.yaml", &b)]);
    assert_eq!((in_force(&index)["x"], told(&index)), (2, vec![]));
}

#[test]
fn an_object_that_moves_to_another_file_with_a_mistake_keeps_its_last_valid_version() {
    let mut index = Index::default();
    read(&mut index, &[("p/a.yaml", &backend("a", 1))]);
    read(&mut index, &[("p/b.yaml", &backend("a", 2).replace("port", "prt"))]);
    assert_eq!(in_force(&index), ports(&[("a", 1)]));
    assert_eq!(&*index.objects()[&key("a")].file, "p/b.yaml");
}

#[test]
fn a_file_renamed_together_with_a_mistake_loses_nothing() {
    let mut index = Index::default();
    let two = backend("a", 1) + &backend("b", 1);
    read(&mut index, &[("p/old.yaml", &two)]);
    let broken = backend("a", 2) + "kind: [";
    read(&mut index, &[("p/new.yaml", &broken)]);
    assert_eq!(in_force(&index), ports(&[("a", 2), ("b", 1)]));
    assert!(told(&index).iter().any(|t| t.contains("p/old.yaml") && t.contains("until p/new.yaml")));
    assert_eq!(read(&mut index, &[("p/new.yaml", &broken)]), Change::default());
    // Once it can be read, what it does not hold is gone.
    read(&mut index, &[("p/new.yaml", &backend("a", 3))]);
    assert_eq!((in_force(&index), told(&index)), (ports(&[("a", 3)]), vec![]));
    // A broken file that was there before hinders no deletion.
    read(&mut index, &[("p/bad.yaml", "kind: ["), ("p/new.yaml", &backend("a", 3))]);
    read(&mut index, &[("p/bad.yaml", "kind: [")]);
    assert_eq!(in_force(&index), ports(&[]));
}

#[test]
fn what_the_first_reading_could_not_show_is_missed_until_it_is_whole() {
    for broken in ["kind: [", &backend("b", 0), ""] {
        let mut index = Index::default();
        read(&mut index, &[("p/a.yaml", &backend("a", 1)), ("p/b.yaml", broken)]);
        assert!(index.is_incomplete(), "{broken}");
        read(&mut index, &[("p/a.yaml", &backend("a", 0)), ("p/b.yaml", &backend("b", 1))]);
        assert!(!index.is_incomplete(), "{broken}: a's last valid version is known");
    }
    let mut index = Index::default();
    read(&mut index, &[("p/b.yaml", "kind: [")]);
    read(&mut index, &[]);
    assert!(!index.is_incomplete(), "deleted");
}

#[test]
fn two_files_that_swap_their_objects_lose_neither() {
    let mut index = Index::default();
    let (one, two) = (backend("a", 1), backend("b", 1));
    read(&mut index, &[("p/a.yaml", &one), ("p/b.yaml", &two)]);
    read(&mut index, &[("p/a.yaml", &two), ("p/b.yaml", &one)]);
    assert_eq!(in_force(&index), ports(&[("a", 1), ("b", 1)]));
    assert!(told(&index).is_empty());
    // As they are read when the swap is caught half-way.
    let before = read(&mut index, &[("p/a.yaml", &one), ("p/b.yaml", &one)]);
    assert!(before.view && told(&index)[0].contains("already written at"));
    read(&mut index, &[("p/a.yaml", &one), ("p/b.yaml", &two)]);
    assert_eq!(in_force(&index), ports(&[("a", 1), ("b", 1)]));
}

#[test]
fn a_valid_version_counts_where_the_first_file_never_held_one() {
    let mut index = Index::default();
    read(&mut index, &[("p/a.yaml", &backend("a", 0))]);
    let unreadable = FileContent { path: "p/a.yaml".into(), body: Err(FileFault::NotAFile) };
    index.update(&reading([unreadable, file("p/b.yaml", &backend("a", 2))]));
    assert_eq!(in_force(&index), ports(&[("a", 2)]));
}

#[test]
fn reading_the_same_again_changes_nothing() {
    let mut index = Index::default();
    let files = [("p/a.yaml", &*backend("a", 1)), ("p/b.yaml", "kind: [")];
    assert_eq!(read(&mut index, &files), Change { objects: true, view: true });
    assert_eq!(read(&mut index, &files), Change::default());
}

#[derive(Clone, Copy, Debug, PartialEq)]
enum Doc {
    Absent,
    Valid(u16),
    Invalid,
}

#[derive(Clone, Debug)]
enum Edit {
    Write { docs: [Doc; 3], broken: bool },
    Empty,
    Unreadable,
    Delete,
}

fn edits() -> impl Strategy<Value = Vec<(usize, Edit)>> {
    let doc = prop_oneof![Just(Doc::Absent), (1u16..5).prop_map(Doc::Valid), Just(Doc::Invalid)];
    let write = ([doc.clone(), doc.clone(), doc], any::<bool>());
    let edit = prop_oneof![
        6 => write.prop_map(|(docs, broken)| Edit::Write { docs, broken }),
        1 => Just(Edit::Empty),
        1 => Just(Edit::Unreadable),
        1 => Just(Edit::Delete),
    ];
    prop::collection::vec((0usize..3, edit), 1..20)
}

fn name(file: usize, doc: usize) -> String {
    format!("f{file}-d{doc}")
}

fn content(file: usize, edit: &Edit) -> Option<FileContent> {
    let path: Arc<str> = format!("p/{file}.yaml").into();
    let text = match edit {
        Edit::Delete => return None,
        Edit::Unreadable => {
            return Some(FileContent { path, body: Err(FileFault::Unreadable("denied".into())) });
        }
        Edit::Empty => String::new(),
        Edit::Write { docs, broken } => {
            let docs = docs.iter().enumerate().map(|(i, doc)| match doc {
                Doc::Absent => String::new(),
                Doc::Valid(port) => backend(&name(file, i), *port),
                Doc::Invalid => backend(&name(file, i), 0),
            });
            docs.collect::<String>()
                + if *broken {
                    "kind: [Backend\n"
                } else {
                    "apiVersion: apps/v1\nkind: Deployment\nmetadata: {name: d}\n"
                }
        }
    };
    Some(FileContent { path, body: Ok(FileText::new(text)) })
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 200, ..ProptestConfig::default() })]

    #[test]
    fn the_set_in_force_is_the_last_valid_version_of_each_object(edits in edits()) {
        let mut index = Index::default();
        let mut files = BTreeMap::new();
        let mut expected = BTreeMap::new();
        for (file, edit) in edits {
            match &edit {
                Edit::Delete => expected.retain(|name: &String, _| !name.starts_with(&format!("f{file}-"))),
                Edit::Empty | Edit::Unreadable => {}
                Edit::Write { docs, broken } => for (i, doc) in docs.iter().enumerate() {
                    match doc {
                        Doc::Valid(port) => _ = expected.insert(name(file, i), *port),
                        Doc::Absent if !broken => _ = expected.remove(&name(file, i)),
                        Doc::Absent | Doc::Invalid => {}
                    }
                },
            }
            match content(file, &edit) {
                Some(content) => drop(files.insert(file, content)),
                None => drop(files.remove(&file)),
            }
            index.update(&reading(files.values().cloned()));
            prop_assert_eq!(in_force(&index), expected.clone(), "after {:?}", edit);
        }
    }
}

fn authorization(action: &str, target: &str) -> String {
    format!(
        "apiVersion: tidegate.io/v1alpha1\nkind: AuthorizationPolicy\nmetadata: {{name: p}}\nspec:\n  \
         targetRefs: [{{kind: Service, name: {target}}}]\n  rules: [{{name: r, action: {action}}}]\n---\n"
    )
}

/// The one policy in force: whether it stands in, and the Service that it is for.
fn policy(index: &Index) -> Option<(bool, String)> {
    index.in_force().find_map(|object| match &**object {
        Object::Policy(policy) => Some((policy.stands_in(), policy.targets[0].object.name.to_string())),
        _ => None,
    })
}

#[test]
fn a_policy_that_must_not_be_missing_is_stood_in_for_until_it_is_valid_for_the_first_time() {
    let mut index = Index::default();
    let mut with = |text: &str| {
        read(&mut index, &[("p/a.yaml", text)]);
        policy(&index)
    };
    assert_eq!(with(&authorization("Maybe", "cart")), Some((true, "cart".into())));
    assert_eq!(
        with(&authorization("Perhaps", "front")),
        Some((true, "front".into())),
        "it is for another by now"
    );
    assert_eq!(with(&authorization("Deny", "front")), Some((false, "front".into())));
    assert_eq!(
        with(&authorization("Maybe", "cart")),
        Some((false, "front".into())),
        "the last valid version"
    );
    assert_eq!(with(&backend("a", 1)), None);
}

#[test]
fn a_policy_that_was_never_valid_denies_where_it_can_be_told_what_it_was_for() {
    let mut index = Index::default();
    let text =
        authorization("Deny", "cart").replace("targetRefs: [", "targetRefs: [{kind: Nothing, name: x}, ");
    read(&mut index, &[("p/a.yaml", &text)]);
    assert_eq!(policy(&index), Some((true, "cart".into())));
    // Of another kind nothing holds.
    let limit = authorization("Maybe", "cart").replace("AuthorizationPolicy", "RateLimitPolicy");
    let mut other = Index::default();
    read(&mut other, &[("p/a.yaml", &limit)]);
    assert_eq!(policy(&other), None);
    let shadow = authorization("Maybe", "cart").replace("spec:\n", "spec:\n  mode: Shadow\n");
    read(&mut index, &[("p/a.yaml", &shadow)]);
    let mode = index.in_force().find_map(|object| match &**object {
        Object::Policy(policy) => Some(policy.mode),
        _ => None,
    });
    assert_eq!(mode, Some(tidegate_policy::model::Mode::Shadow), "it was to refuse nobody");
}
