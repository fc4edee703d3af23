//! What to write of a status: ours, beside what others have said.
//!
//! Pure. Lists in which several controllers have entries (`parents`, `ancestors`) are atomic to the API: who writes them
//! writes all of them, so the others' entries are carried along word for word.

use serde_json::{Map, Value as Json};

/// Lists with an entry for each controller, and what tells the entries of one controller apart.
const SHARED: [(&str, &str); 2] = [("parents", "parentRef"), ("ancestors", "ancestorRef")];
/// The types of conditions that only we set: one of these that we have nothing to say of any more goes.
const OURS: [&str; 6] =
    ["Accepted", "Programmed", "ResolvedRefs", "Conflicted", "Overridden", "InsecureFrontendValidationMode"];
/// As the API bounds a condition's message, in characters.
const MAX_MESSAGE: usize = 32_768;

/// The status to write over `observed` so that it says `wanted`; `None` if it does already.
pub fn merge(controller: &str, wanted: &Json, observed: &Json) -> Option<Json> {
    let mut merged = Map::new();
    let mut differs = false;
    let nothing = Json::Array(Vec::new());
    let wanted = wanted.as_object();
    let written = wanted.into_iter().flatten().map(|(field, wanted)| (field.as_str(), wanted));
    // What is no longer said is taken back.
    let left = ["conditions", "parents", "ancestors"].into_iter().filter(|field| {
        let said = list(own(controller, observed).get(field).unwrap_or(&Json::Null)).len();
        said > 0 && wanted.is_none_or(|wanted| !wanted.contains_key(*field))
    });
    for (field, wanted) in written.chain(left.map(|field| (field, &nothing))) {
        let observed = observed.get(field).unwrap_or(&Json::Null);
        let shared = SHARED.iter().find(|(list, _)| *list == field);
        let value = match shared {
            Some((_, reference)) => entries(controller, reference, wanted, observed),
            None if field == "conditions" => conditions(wanted, observed),
            None if field == "listeners" => listeners(wanted, observed),
            None => wanted.clone(),
        };
        differs |= match field {
            "conditions" => !is_said(&value, observed),
            _ => value != *observed && !(observed.is_null() && value == nothing),
        };
        merged.insert(field.to_owned(), value);
    }
    differs.then_some(Json::Object(merged))
}

/// Whether the API takes such a status as a whole, so that nobody else must have written it in between.
pub fn is_shared(status: &Json) -> bool {
    SHARED.iter().any(|(list, _)| status.get(list).is_some())
}

/// The part of a status that is ours, with its times: what must not change unless we change it.
pub fn own(controller: &str, status: &Json) -> Json {
    let mut own = Map::new();
    for (field, value) in status.as_object().into_iter().flatten() {
        let value = match SHARED.iter().any(|(list, _)| list == field) {
            true => Json::Array(ours(controller, value).cloned().collect()),
            false if field == "conditions" => {
                let all = value.as_array().into_iter().flatten();
                Json::Array(all.filter(|c| is_ours(c)).cloned().collect())
            }
            false => value.clone(),
        };
        own.insert(field.clone(), value);
    }
    Json::Object(own)
}

fn is_said(wanted: &Json, observed: &Json) -> bool {
    let (wanted, observed) = (list(wanted), list(observed));
    let is_there = |condition: &Json| observed.contains(condition);
    let left = observed.iter().filter(|c| is_ours(c)).any(|c| find(wanted, "type", &c["type"]).is_none());
    wanted.iter().all(is_there) && !left
}

fn is_ours(condition: &Json) -> bool {
    condition["type"].as_str().is_some_and(|kind| OURS.contains(&kind))
}

fn list(value: &Json) -> &[Json] {
    value.as_array().map(Vec::as_slice).unwrap_or_default()
}

fn find<'a>(list: &'a [Json], field: &str, value: &Json) -> Option<&'a Json> {
    list.iter().find(|entry| entry[field] == *value)
}

fn ours<'a>(controller: &'a str, entries: &'a Json) -> impl Iterator<Item = &'a Json> {
    list(entries).iter().filter(move |entry| entry["controllerName"] == controller)
}

/// The others' entries as they are, then ours.
fn entries(controller: &str, reference: &str, wanted: &Json, observed: &Json) -> Json {
    let others = list(observed).iter().filter(|entry| entry["controllerName"] != controller);
    let mut merged: Vec<_> = others.cloned().collect();
    for entry in list(wanted) {
        let mut same = ours(controller, observed).filter(|before| before[reference] == entry[reference]);
        merged.push(timed(entry, same.next().unwrap_or(&Json::Null)));
    }
    // An order that another of our versions has written is as good.
    let before = list(observed);
    if merged.len() == before.len() && merged.iter().all(|entry| before.contains(entry)) {
        return observed.clone();
    }
    Json::Array(merged)
}

fn listeners(wanted: &Json, observed: &Json) -> Json {
    let observed = list(observed);
    let listener =
        |listener: &Json| timed(listener, find(observed, "name", &listener["name"]).unwrap_or(&Json::Null));
    list(wanted).iter().map(listener).collect()
}

/// `entry` with the times that its conditions had in `before`.
fn timed(entry: &Json, before: &Json) -> Json {
    let mut entry = entry.clone();
    if let Some(fields) = entry.as_object_mut() {
        let timed = conditions(fields.get("conditions").unwrap_or(&Json::Null), &before["conditions"]);
        fields.insert(String::from("conditions"), timed);
    }
    entry
}

/// A condition whose status is as it was keeps the time that everybody has read.
fn conditions(wanted: &Json, observed: &Json) -> Json {
    let observed = list(observed);
    let condition = |condition: &Json| {
        let mut condition = condition.clone();
        let before = find(observed, "type", &condition["type"]);
        if let Some(before) = before.filter(|before| before["status"] == condition["status"]) {
            condition["lastTransitionTime"] = before["lastTransitionTime"].clone();
        }
        if let Some(message) = condition["message"].as_str()
            && let Some((end, _)) = message.char_indices().nth(MAX_MESSAGE)
        {
            condition["message"] = Json::String(message[..end].to_owned());
        }
        condition
    };
    list(wanted).iter().map(condition).collect()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    const US: &str = "tidegate.io/gateway-controller";

    fn condition(status: &str, generation: i64, at: &str) -> Json {
        json!({
            "type": "Accepted", "status": status, "reason": "Accepted", "message": "",
            "observedGeneration": generation, "lastTransitionTime": at,
        })
    }

    fn entry(controller: &str, parent: &str, condition: Json) -> Json {
        let conditions = Json::Array(vec![condition]);
        json!({
            "parentRef": { "name": parent }, "controllerName": controller, "conditions": conditions,
        })
    }

    #[test]
    fn other_controllers_entries_survive_word_for_word() {
        let theirs = entry("other.io/controller", "edge", condition("False", 7, "then"));
        let observed = json!({ "parents": [theirs, entry(US, "old", condition("True", 1, "then"))] });
        let wanted = json!({ "parents": [entry(US, "edge", condition("True", 1, "now"))] });
        let merged = merge(US, &wanted, &observed).unwrap();
        assert_eq!(merged["parents"], json!([theirs, wanted["parents"][0]]));
        assert_eq!(merge(US, &wanted, &merged), None);
    }

    #[test]
    fn a_status_that_says_it_already_is_not_written_and_times_are_kept() {
        let observed = json!({ "parents": [entry(US, "edge", condition("True", 1, "then"))] });
        let wanted = json!({ "parents": [entry(US, "edge", condition("True", 1, "now"))] });
        assert_eq!(merge(US, &wanted, &observed), None);
        let wanted = json!({ "parents": [entry(US, "edge", condition("True", 2, "now"))] });
        let merged = merge(US, &wanted, &observed).unwrap();
        assert_eq!(merged["parents"][0]["conditions"][0], condition("True", 2, "then"));
        let wanted = json!({ "parents": [entry(US, "edge", condition("False", 2, "now"))] });
        let merged = merge(US, &wanted, &observed).unwrap();
        assert_eq!(merged["parents"][0]["conditions"][0], condition("False", 2, "now"));
    }

    #[test]
    fn entries_of_ours_that_hold_no_longer_are_taken_back() {
        let theirs = entry("other.io/controller", "edge", condition("True", 1, "then"));
        let observed = json!({ "parents": [entry(US, "edge", condition("True", 1, "then")), theirs] });
        let merged = merge(US, &json!({ "parents": [] }), &observed).unwrap();
        assert_eq!(merged, json!({ "parents": [theirs] }));
    }

    #[test]
    fn conditions_of_types_that_are_not_ours_make_no_difference() {
        let foreign = json!({ "type": "example.com/Scanned", "status": "True" });
        let observed = json!({ "conditions": [foreign, condition("True", 1, "then")] });
        let wanted = json!({ "conditions": [condition("True", 1, "now")] });
        assert_eq!(merge(US, &wanted, &observed), None);
        let merged = merge(US, &json!({ "conditions": [] }), &observed).unwrap();
        assert_eq!(merged, json!({ "conditions": [] }));
    }

    #[test]
    fn a_message_is_cut_where_the_api_would_refuse_it() {
        let mut long = condition("True", 1, "now");
        long["message"] = json!("é".repeat(MAX_MESSAGE + 1));
        let merged = merge(US, &json!({ "conditions": [long] }), &json!({})).unwrap();
        let message = merged["conditions"][0]["message"].as_str().unwrap();
        assert_eq!(message.chars().count(), MAX_MESSAGE);
        assert_eq!(merge(US, &json!({ "conditions": [long] }), &merged), None);
    }
}
