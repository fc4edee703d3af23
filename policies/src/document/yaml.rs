//! Text -> located trees: YAML 1.2 (and so JSON) with the core schema, one tree per document.
//!
//! Every node knows its place, so that whatever is found wrong later can be pointed to. Input is hostile until proven
//! otherwise: size, nesting and alias expansion are bounded before anything is built.

use std::collections::HashMap;
use std::sync::Arc;

use saphyr_parser::{Event, Marker, Parser, ScalarStyle, Span, Tag};

use super::scalar;

/// How deeply sequences and mappings may nest.
pub const MAX_DEPTH: usize = 64;
/// How many nodes a document may have once its aliases are expanded.
pub const MAX_NODES: usize = 200_000;

/// A place in a text, both from 1; zero for values that were never text.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Place {
    pub(crate) line: u32,
    pub(crate) column: u32,
}

#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Node {
    pub(crate) value: Value,
    pub(crate) place: Place,
    /// Nodes in this tree, itself included, aliases expanded.
    size: usize,
    height: usize,
}

#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Value {
    Null,
    Bool(bool),
    Int(i128),
    Float(f64),
    String(String),
    /// Children are shared where an alias repeats them.
    Sequence(Vec<Arc<Node>>),
    Mapping(Vec<Entry>),
}

#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Entry {
    pub(crate) key: String,
    pub(crate) place: Place,
    pub(crate) value: Arc<Node>,
}

/// Something wrong with the YAML itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct YamlError {
    pub(crate) place: Place,
    pub(crate) message: String,
    pub(crate) help: Option<String>,
}

/// One document of a stream.
#[derive(Clone, Debug)]
pub(crate) struct Document {
    /// What could be read; complete unless `errors` says otherwise.
    pub(crate) root: Option<Arc<Node>>,
    pub(crate) errors: Vec<YamlError>,
    /// A bound was exceeded: `root` is only the beginning.
    pub(crate) cut: bool,
}

/// Every document that could be read, and whether a syntax error hid others.
#[derive(Debug)]
pub(crate) struct Stream {
    pub(crate) documents: Vec<Document>,
    pub(crate) syntax_errors: Vec<YamlError>,
}

impl Document {
    pub(crate) fn is_empty(&self) -> bool {
        self.errors.is_empty() && self.root.as_ref().is_none_or(|r| r.value == Value::Null)
    }
}

impl Node {
    pub(crate) fn new(value: Value, place: Place) -> Self {
        let (size, height) = match &value {
            Value::Sequence(items) => measure(items.iter()),
            Value::Mapping(entries) => measure(entries.iter().map(|e| &e.value)),
            _ => (1, 0),
        };
        Self { value, place, size, height }
    }

    /// The value of `key`; an explicit null counts as absent, as in Kubernetes.
    pub(crate) fn get(&self, key: &str) -> Option<&Arc<Self>> {
        self.entry(key).map(|e| &e.value).filter(|n| n.value != Value::Null)
    }

    pub(crate) fn entry(&self, key: &str) -> Option<&Entry> {
        self.entries().iter().find(|e| e.key == key)
    }

    /// The entries of a mapping; none for anything else.
    pub(crate) fn entries(&self) -> &[Entry] {
        match &self.value {
            Value::Mapping(entries) => entries,
            _ => &[],
        }
    }

    pub(crate) fn as_str(&self) -> Option<&str> {
        match &self.value {
            Value::String(text) => Some(text),
            _ => None,
        }
    }
}

fn measure<'a>(children: impl Iterator<Item = &'a Arc<Node>>) -> (usize, usize) {
    children.fold((1, 1), |(size, height), child| {
        (usize::saturating_add(size, child.size), usize::max(height, child.height + 1))
    })
}

/// Reads every document of `text`. A syntax error costs the document it is in, not its neighbours.
pub(crate) fn read(text: &str) -> Stream {
    let mut stream = Stream { documents: Vec::new(), syntax_errors: Vec::new() };
    for (first_line, chunk) in chunks(text) {
        let mut reader = Reader::new(first_line);
        for next in Parser::new_from_str(chunk) {
            match next {
                Ok((event, span)) => reader.event(event, span),
                Err(error) => {
                    let place = reader.place(*error.marker());
                    stream.syntax_errors.push(syntax_error(chunk, place, first_line, error.info()));
                    break;
                }
            }
        }
        stream.documents.append(&mut reader.documents);
    }
    stream
}

/// Cuts at every `---` that starts a line, which no scalar may hold (YAML 1.2.2, 9.1.2 and 7.3), with the number of
/// lines before each piece.
fn chunks(text: &str) -> Vec<(u32, &str)> {
    let text = text.strip_prefix('\u{feff}').unwrap_or(text);
    let mut chunks = Vec::new();
    let (mut start, mut start_line, mut has_content) = (0, 0, false);
    let (mut offset, mut line_number) = (0, 0);
    for line in text.split_inclusive('\n') {
        let marker = line
            .strip_prefix("---")
            .is_some_and(|l| l.trim_end_matches(['\r', '\n']).is_empty() || l.starts_with([' ', '\t']));
        if marker && has_content {
            chunks.push((start_line, &text[start..offset]));
            (start, start_line) = (offset, line_number);
        }
        // Comments and directives belong to the document after them.
        has_content |= marker || !(line.trim().is_empty() || line.starts_with(['#', '%']));
        offset += line.len();
        line_number += u32::try_from(lines(line).count()).unwrap_or(u32::MAX);
    }
    if has_content {
        chunks.push((start_line, &text[start..]));
    }
    chunks
}

/// A line ends at `\n`, `\r\n` or `\r` (YAML 1.2.2, 5.4), which is how the parser counts.
fn lines(text: &str) -> impl Iterator<Item = &str> {
    text.lines().flat_map(|line| line.split('\r'))
}

fn syntax_error(chunk: &str, mut place: Place, first_line: u32, info: &str) -> YamlError {
    let lines: Vec<_> = lines(chunk).collect();
    let at = place.line.saturating_sub(first_line + 1) as usize;
    let written = lines.iter().rposition(|l| !l.trim().is_empty()).unwrap_or_default();
    // What is noticed only at the end of the piece is shown where its text ends, not in the next document.
    if at > written {
        place.line -= u32::try_from(at - written).unwrap_or_default();
        place.column =
            lines.get(written).map_or(1, |l| u32::try_from(l.chars().count()).unwrap_or(u32::MAX - 1) + 1);
    }
    let line = lines.get(at.min(written)).copied().unwrap_or_default();
    let indent = &line[..line.len() - line.trim_start().len()];
    let help =
        indent.contains('\t').then(|| String::from("indent with spaces: YAML does not allow tabs there"));
    YamlError { place, message: info.to_owned(), help }
}

/// Builds trees from events, without recursion.
struct Reader {
    first_line: u32,
    documents: Vec<Document>,
    errors: Vec<YamlError>,
    open: Vec<Open>,
    root: Option<Arc<Node>>,
    anchors: HashMap<usize, Arc<Node>>,
    nodes: usize,
    /// A bound was exceeded: the rest of the document is passed over.
    given_up: bool,
}

/// A collection whose end has not come yet.
struct Open {
    place: Place,
    anchor: usize,
    items: Items,
}

enum Items {
    Sequence(Vec<Arc<Node>>),
    Mapping { entries: Vec<Entry>, lines: HashMap<String, u32>, key: Option<(Option<String>, Place)> },
}

impl Reader {
    fn new(first_line: u32) -> Self {
        Self {
            first_line,
            documents: Vec::new(),
            errors: Vec::new(),
            open: Vec::new(),
            root: None,
            anchors: HashMap::new(),
            nodes: 0,
            given_up: false,
        }
    }

    fn place(&self, marker: Marker) -> Place {
        let line = u32::try_from(marker.line()).unwrap_or(u32::MAX).max(1);
        let column = u32::try_from(marker.col()).unwrap_or(u32::MAX - 1) + 1;
        Place { line: self.first_line.saturating_add(line), column }
    }

    fn event(&mut self, event: Event<'_>, span: Span) {
        match event {
            Event::DocumentStart(_) => self.start_document(),
            Event::DocumentEnd => self.end_document(),
            _ if self.given_up => {}
            Event::Alias(id) => self.alias(id, self.place(span.start)),
            Event::Scalar(text, style, anchor, tag) => {
                let place = self.place(span.start);
                let value = self.scalar(&text, style, tag.as_deref(), place);
                self.finish(Node::new(value, place), anchor);
            }
            Event::SequenceStart(anchor, tag) => {
                self.start(span, anchor, tag.as_deref(), "seq", Items::Sequence(Vec::new()));
            }
            Event::MappingStart(anchor, tag) => {
                let items = Items::Mapping { entries: Vec::new(), lines: HashMap::new(), key: None };
                self.start(span, anchor, tag.as_deref(), "map", items);
            }
            Event::SequenceEnd | Event::MappingEnd => self.end_collection(),
            Event::Nothing | Event::StreamStart | Event::StreamEnd => {}
        }
    }

    fn start_document(&mut self) {
        self.anchors.clear();
        self.open.clear();
        self.errors.clear();
        self.root = None;
        self.nodes = 0;
        self.given_up = false;
    }

    fn end_document(&mut self) {
        while !self.open.is_empty() {
            self.end_collection();
        }
        let errors = std::mem::take(&mut self.errors);
        self.documents.push(Document { root: self.root.take(), errors, cut: self.given_up });
    }

    fn start(&mut self, span: Span, anchor: usize, tag: Option<&Tag>, expected: &str, items: Items) {
        let place = self.place(span.start);
        if self.open.len() >= MAX_DEPTH {
            return self.give_up(place, format!("nested more than {MAX_DEPTH} levels deep"));
        }
        if let Some(tag) = tag.filter(|t| !(t.is_yaml_core_schema() && t.suffix == expected)) {
            self.bad_tag(tag, place);
        }
        self.open.push(Open { place, anchor, items });
    }

    fn end_collection(&mut self) {
        let Some(open) = self.open.pop() else { return };
        let value = match open.items {
            Items::Sequence(items) => Value::Sequence(items),
            Items::Mapping { entries, .. } => Value::Mapping(entries),
        };
        self.finish(Node::new(value, open.place), open.anchor);
    }

    fn finish(&mut self, node: Node, anchor: usize) {
        let node = Arc::new(node);
        if anchor > 0 {
            self.anchors.insert(anchor, node.clone());
        }
        self.count(1, node.place);
        self.attach(node);
    }

    fn alias(&mut self, id: usize, place: Place) {
        let Some(node) = self.anchors.get(&id).cloned() else {
            self.error(place, "the alias refers to no complete anchor of this document");
            return self.attach(Arc::new(Node::new(Value::Null, place)));
        };
        if self.open.len() + node.height > MAX_DEPTH {
            return self.give_up(place, format!("nested more than {MAX_DEPTH} levels deep by an alias"));
        }
        self.count(node.size, place);
        if !self.given_up {
            self.attach(node);
        }
    }

    fn count(&mut self, nodes: usize, place: Place) {
        self.nodes = self.nodes.saturating_add(nodes);
        if self.nodes > MAX_NODES && !self.given_up {
            self.give_up(place, format!("more than {MAX_NODES} values in one document, aliases included"));
        }
    }

    /// Puts a finished node where it belongs: into its parent, or at the root.
    fn attach(&mut self, node: Arc<Node>) {
        let Some(parent) = self.open.last_mut() else {
            self.root = Some(node);
            return;
        };
        match &mut parent.items {
            Items::Sequence(items) => items.push(node),
            Items::Mapping { entries, lines, key } => {
                let place = node.place;
                let Some((name, key_place)) = key.take() else {
                    let name = node.as_str().map(str::to_owned);
                    *key = Some((name.clone(), place));
                    let Some(name) = name else {
                        return self.error(place, "a key must be a string: put it in quotes");
                    };
                    if let Some(first) = lines.get(&name).copied() {
                        *key = Some((None, place));
                        let line = place.line;
                        return self.error(
                            place,
                            format!("key `{name}` is written twice, on lines {first} and {line}"),
                        );
                    }
                    lines.insert(name, place.line);
                    return;
                };
                if let Some(key) = name {
                    entries.push(Entry { key, place: key_place, value: node });
                }
            }
        }
    }

    fn scalar(&mut self, text: &str, style: ScalarStyle, tag: Option<&Tag>, place: Place) -> Value {
        let Some(tag) = tag else {
            return match style {
                ScalarStyle::Plain => scalar::plain(text),
                _ => Value::String(text.to_owned()),
            };
        };
        let is_non_specific = tag.handle.is_empty() && tag.suffix == "!";
        if !tag.is_yaml_core_schema() && !is_non_specific {
            self.bad_tag(tag, place);
            return Value::String(text.to_owned());
        }
        scalar::tagged(text, &tag.suffix).unwrap_or_else(|| {
            self.error(place, format!("`{text}` is not a !!{}", tag.suffix));
            Value::String(text.to_owned())
        })
    }

    fn bad_tag(&mut self, tag: &Tag, place: Place) {
        self.error(place, format!("the tag `{tag}` has no meaning here"));
    }

    fn error(&mut self, place: Place, message: impl Into<String>) {
        self.errors.push(YamlError { place, message: message.into(), help: None });
    }

    fn give_up(&mut self, place: Place, message: impl Into<String>) {
        self.error(place, message);
        self.given_up = true;
    }
}
