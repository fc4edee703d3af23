//! `anyOf` and `oneOf`: which of the shapes an author meant, so that the errors speak of that one.

use serde_json::Value as Json;

use super::super::diagnostic::Report;
use super::super::yaml::Node;
use super::known::Known;
use super::values::{is_type, types};
use super::{Walk, nearest};

impl<'a> Walk<'a> {
    pub(super) fn choice(&mut self, node: &Node, branches: &'a [Json], known: &Known<'a>) {
        let branches: Vec<_> = branches.iter().filter(|b| types(b) != ["null"]).collect();
        if let [only] = branches[..] {
            return self.apply(node, only, known);
        }
        if let Some(allowed) = self.constants(&branches) {
            return self.constant(node, &allowed);
        }
        if let Some(name) = self.discriminator(&branches) {
            return self.tagged(node, name, &branches, known);
        }
        self.untagged(node, &branches, known);
    }

    /// All allowed values, if every branch is a constant or a list of them.
    fn constants(&self, branches: &[&'a Json]) -> Option<Vec<&'a Json>> {
        let mut allowed = Vec::new();
        for branch in branches {
            let branch = self.checker.resolve(branch);
            match (branch.get("const"), branch.get("enum").and_then(Json::as_array)) {
                (Some(constant), _) => allowed.push(constant),
                (None, Some(list)) => allowed.extend(list),
                (None, None) => return None,
            }
        }
        Some(allowed)
    }

    fn constant(&mut self, node: &Node, allowed: &[&Json]) {
        if node.as_str().is_none() && allowed.iter().all(|a| a.is_string()) {
            return self.wrong_type(node, &["string"]);
        }
        self.one_of(node, allowed);
    }

    /// The property that has a constant of its own in every branch.
    fn discriminator(&self, branches: &[&'a Json]) -> Option<&'a str> {
        let properties = self.checker.resolve(branches.first()?).get("properties")?.as_object()?;
        let in_all = |name: &str| branches.iter().all(|b| self.tag(b, name).is_some());
        properties.keys().map(String::as_str).find(|name| in_all(name))
    }

    fn tag(&self, branch: &'a Json, name: &str) -> Option<&'a Json> {
        self.checker.resolve(branch).get("properties")?.get(name)?.get("const")
    }

    fn tagged(&mut self, node: &Node, name: &str, branches: &[&'a Json], known: &Known<'a>) {
        if !is_type(node, "object") {
            return self.wrong_type(node, &["object"]);
        }
        let Some(value) = node.get(name) else {
            return self
                .field
                .within(name, |field| self.report.error(node.place, field, "is required", None));
        };
        let meant = branches.iter().find(|b| self.tag(b, name).and_then(Json::as_str) == value.as_str());
        if let (Some(branch), Some(_)) = (meant, value.as_str()) {
            return self.apply(node, branch, known);
        }
        let allowed: Vec<_> = branches.iter().filter_map(|b| self.tag(b, name)).collect();
        let length = self.field.push(name);
        self.constant(value, &allowed);
        self.field.truncate(length);
    }

    fn untagged(&mut self, node: &Node, branches: &[&'a Json], known: &Known<'a>) {
        let fitting: Vec<_> = branches.iter().copied().filter(|b| self.fits(node, b)).collect();
        if fitting.is_empty() {
            let mut wanted: Vec<_> = branches.iter().flat_map(|b| types(self.checker.resolve(b))).collect();
            wanted.dedup();
            return self.wrong_type(node, &wanted);
        }
        let mut tried: Vec<_> =
            fitting.iter().map(|branch| (self.attempt(node, branch, known), *branch)).collect();
        if tried.iter().any(|(report, _)| report.errors() == 0) {
            return;
        }
        if self.none_begun(node, &fitting) {
            return;
        }
        // A branch whose required fields are there was meant; among those, the one with the fewest faults.
        tried.sort_by_key(|(report, branch)| (!self.begun(node, branch), report.errors()));
        if let Some((report, _)) = tried.into_iter().next() {
            self.report.append(report);
        }
    }

    fn fits(&self, node: &Node, branch: &Json) -> bool {
        let types = types(self.checker.resolve(branch));
        types.is_empty() || types.iter().any(|t| is_type(node, t))
    }

    fn attempt(&self, node: &Node, branch: &'a Json, known: &Known<'a>) -> Report {
        let mut report = self.report.sibling();
        let mut walk = Walk { checker: self.checker, field: self.field.clone(), report: &mut report };
        walk.apply(node, branch, known);
        report
    }

    fn required(&self, branch: &'a Json) -> Vec<&'a str> {
        let required = self.checker.resolve(branch).get("required").and_then(Json::as_array);
        required.into_iter().flatten().filter_map(Json::as_str).collect()
    }

    fn begun(&self, node: &Node, branch: &'a Json) -> bool {
        self.required(branch).iter().any(|name| node.get(name).is_some())
    }

    /// Where each branch is one required field and none is there, says so once.
    fn none_begun(&mut self, node: &Node, branches: &[&'a Json]) -> bool {
        let names: Vec<_> = branches.iter().map(|b| self.required(b)).collect();
        if names.iter().any(|n| n.len() != 1) || branches.iter().any(|b| self.begun(node, b)) {
            return false;
        }
        let names: Vec<_> = names.into_iter().flatten().collect();
        let written = node.entries().iter().find_map(|e| nearest(&e.key, names.iter().copied()));
        // The misspelt field is reported as unknown, with its nearest name.
        if written.is_none() {
            self.error(node.place, format!("one of {} is required", names.join(", ")), None);
        }
        true
    }
}
