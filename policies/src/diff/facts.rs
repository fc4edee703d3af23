//! What a set of resources leads to, fact by fact.

use std::collections::BTreeMap;

use super::{Key, Said, Topic};
use crate::model::{Resources, SourceRef};

/// By topic and by what they are about.
#[derive(Debug, Default)]
pub(super) struct Facts(pub(super) BTreeMap<Key, Fact>);

#[derive(Debug, Default)]
pub(super) struct Fact {
    pub(super) source: Option<SourceRef>,
    /// What there is to say, by field.
    pub(super) parts: BTreeMap<String, Said>,
}

impl Facts {
    pub(super) fn of(resources: &Resources) -> Self {
        let mut facts = Self::default();
        super::settings::tell(resources, &mut facts);
        super::routes::tell(resources, &mut facts);
        super::policies::tell(resources, &mut facts);
        facts
    }

    pub(super) fn add(&mut self, topic: Topic, subject: impl Into<String>, fact: Fact) {
        self.0.entry((topic, subject.into())).or_insert(fact);
    }
}

impl Fact {
    pub(super) fn at(source: &SourceRef) -> Self {
        Self { source: Some(source.clone()), parts: BTreeMap::new() }
    }

    /// Says nothing where there is nothing to say.
    pub(super) fn say(&mut self, field: impl Into<String>, text: impl Into<String>) {
        let text = text.into();
        if !text.is_empty() {
            self.parts.insert(field.into(), Said { text, source: None });
        }
    }

    pub(super) fn say_at(&mut self, field: impl Into<String>, text: impl Into<String>, source: SourceRef) {
        self.parts.insert(field.into(), Said { text: text.into(), source: Some(source) });
    }
}
