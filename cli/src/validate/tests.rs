use serde_json::Value;
use tidegate_control_plane::source::{FileContent, FileText, Reading};
use tidegate_policy::resolve::Controller;

use super::problem::Report;
use super::{explain, json, known, render, sarif};

const FILES: [(&str, &str); 2] = [
    (
        "mesh/a.yaml",
        "\
apiVersion: v1
kind: Service
metadata: {name: web}
spec: {ports: [{port: 80}]}
---
apiVersion: tidegate.io/v1alpha1
kind: RateLimitPolicy
metadata: {name: limits}
spec:
  targetRefs: [{kind: Service, name: web}]
  limits:
  - name: all
    reqests: 5        # a slip
    per: 1s
",
    ),
    (
        "mesh/b c.yaml",
        "\
apiVersion: tidegate.io/v1alpha1
kind: RateLimitPolicy
metadata: {name: second}
spec:
  targetRefs: [{kind: Service, name: web}]
  limits:
  - {name: all, requests: 5, per: 1s}
  - {name: more, requests: 9, per: 1s}
---
apiVersion: tidegate.io/v1alpha1
kind: RetryPolicy
metadata: {name: again}
spec:
  targetRefs: [{kind: Service, name: nobody}]
",
    ),
];

fn report(files: &[(&str, &str)]) -> Report {
    let content =
        |(path, text): &(&str, &str)| FileContent { path: (*path).into(), body: Ok(FileText::new(*text)) };
    let files = files.iter().map(content).collect();
    let reading = Reading { files, unknown: Vec::new(), root_listed: true };
    Report::of(&reading, &Controller::default())
}

#[test]
fn a_problem_is_shown_with_its_line_the_field_underlined_and_what_would_be_right() {
    let text = render::text(&report(&FILES), false);
    let expected = "\
error: unknown field
  --> mesh/a.yaml:13:5
   |
13 |     reqests: 5        # a slip
   |     ^^^^^^^ spec.limits[0].reqests
   = help: did you mean `requests`?
";
    assert!(text.starts_with(expected), "{text}");
    let warning = "\
warning[limit-never-trips]: `more` never refuses anybody: `all` counts the same requests and is stricter
 --> mesh/b c.yaml:8:5
  |
8 |   - {name: more, requests: 9, per: 1s}
  |     ^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^ spec.limits[1]
  = help: delete `more`, or let it allow less than `all`
  = note: mesh/b c.yaml:7: `all` is written here
";
    assert!(text.contains(warning), "{text}");
    assert!(
        text.contains("error[target-not-found]: RetryPolicy default/again: there is no Service"),
        "{text}"
    );
    assert!(text.ends_with("2 files, 4 objects, 2 errors, 1 warning\n"), "{text}");
}

#[test]
fn colour_is_added_to_the_text_and_changes_nothing_else_of_it() {
    let report = report(&FILES);
    let (plain, coloured) = (render::text(&report, false), render::text(&report, true));
    assert!(!plain.contains('\u{1b}') && coloured.contains("\u{1b}[1;31m"));
    let mut stripped = String::new();
    for (at, part) in coloured.split('\u{1b}').enumerate() {
        stripped += if at == 0 { part } else { part.split_once('m').unwrap().1 };
    }
    assert_eq!(stripped, plain);
}

#[test]
fn what_is_well_is_one_line() {
    let text = render::text(&report(&FILES[..0]), false);
    assert_eq!(text, "0 files, 0 objects, 0 errors, 0 warnings\n");
}

#[test]
fn the_json_has_a_problem_by_its_parts() {
    let json: Value = serde_json::from_str(&json::render(&report(&FILES)).unwrap()).unwrap();
    assert_eq!((&json["errors"], &json["warnings"], &json["objects"]), (&2.into(), &1.into(), &4.into()));
    let first = &json["diagnostics"][0];
    assert_eq!(first["severity"], "error");
    assert_eq!((&first["line"], &first["column"]), (&13.into(), &5.into()));
    assert_eq!(
        (first["field"].as_str(), first["code"].as_str()),
        (Some("spec.limits[0].reqests"), Some("invalid-document"))
    );
    let lint =
        json["diagnostics"].as_array().unwrap().iter().find(|one| one["severity"] == "warning").unwrap();
    assert_eq!((&lint["code"], &lint["related"][0]["line"]), (&"limit-never-trips".into(), &7.into()));
}

/// What the schema of SARIF 2.1.0 demands, and what the tools that read it ask for beside.
#[test]
fn the_sarif_has_all_that_its_schema_demands() {
    let sarif: Value = serde_json::from_str(&sarif::render(&report(&FILES)).unwrap()).unwrap();
    assert_eq!(sarif["version"], "2.1.0");
    assert!(sarif["$schema"].as_str().unwrap().ends_with("sarif-schema-2.1.0.json"));
    let run = &sarif["runs"][0];
    assert_eq!(run["tool"]["driver"]["name"], "tidegate");
    assert_eq!(run["columnKind"], "unicodeCodePoints");
    let rules = run["tool"]["driver"]["rules"].as_array().unwrap();
    let results = run["results"].as_array().unwrap();
    assert_eq!((rules.len(), results.len()), (3, 3));
    for result in results {
        let index = usize::try_from(result["ruleIndex"].as_u64().unwrap()).unwrap();
        assert_eq!(rules[index]["id"], result["ruleId"]);
        assert!(!rules[index]["shortDescription"]["text"].as_str().unwrap().is_empty());
        assert!(["error", "warning", "note", "none"].contains(&result["level"].as_str().unwrap()));
        assert!(!result["message"]["text"].as_str().unwrap().is_empty());
        let [location] = &result["locations"].as_array().unwrap()[..] else { panic!("{result}") };
        let physical = &location["physicalLocation"];
        let uri = physical["artifactLocation"]["uri"].as_str().unwrap();
        assert!(uri.is_ascii() && !uri.contains(' ') && !uri.contains(':'), "{uri}");
        let region = &physical["region"];
        assert!(region["startLine"].as_u64().unwrap() >= 1);
        if let Some(column) = region["startColumn"].as_u64() {
            assert!(column >= 1 && region["endColumn"].as_u64().unwrap() > column);
        }
    }
    let first = &results[0]["locations"][0]["physicalLocation"]["region"];
    assert_eq!((&first["startColumn"], &first["endColumn"]), (&5.into(), &12.into()));
    let related = results.iter().find_map(|result| result.get("relatedLocations")).unwrap();
    assert_eq!(related[0]["physicalLocation"]["artifactLocation"]["uri"], "mesh/b%20c.yaml");
}

#[test]
fn of_a_file_that_cannot_be_read_there_is_no_region() {
    let fault = tidegate_control_plane::source::FileFault::NotAFile;
    let file = FileContent { path: "x.yaml".into(), body: Err(fault) };
    let reading = Reading { files: vec![file], unknown: Vec::new(), root_listed: true };
    let sarif = sarif::render(&Report::of(&reading, &Controller::default())).unwrap();
    let sarif: Value = serde_json::from_str(&sarif).unwrap();
    let physical = &sarif["runs"][0]["results"][0]["locations"][0]["physicalLocation"];
    assert_eq!((physical.get("region"), &physical["artifactLocation"]["uri"]), (None, &"x.yaml".into()));
}

#[test]
fn every_lint_is_explained_in_lines_that_fit() {
    for lint in tidegate_policy::lint::LINTS {
        let text = explain::text(lint.name).unwrap();
        assert!(text.starts_with(lint.name) && text.contains("--allow"), "{text}");
        // Examples are not broken.
        let long = text.lines().skip(1).find(|line| !line.starts_with(' ') && line.chars().count() > 80);
        assert_eq!(long, None);
    }
    assert_eq!(explain::text("all").unwrap().lines().count(), tidegate_policy::lint::LINTS.len());
    assert!(known("unreachable-rules").unwrap_err().to_string().contains("did you mean `unreachable-rule`?"));
}
