//! `tidegate schema`: what editors are told, so that they know every field while somebody types.

use std::fmt::Write as _;
use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, bail};
use serde_json::Value as Json;
use tidegate_policy::document::editor;

use crate::exit::Done;
use crate::say;

pub(crate) const EXAMPLES: &str = "\
Examples:
  tidegate schema                      the kinds that there are
  tidegate schema RateLimitPolicy      the JSON Schema of one of them
  tidegate schema cases                that of files of cases (*.test.yaml)
  tidegate schema --all > tidegate.json
      one schema for a document of any kind
  tidegate schema --all --out schemas
      a file for each kind, all.json and cases.json

For yaml-language-server (VS Code, Neovim, ...), on the first line of a file:
  # yaml-language-server: $schema=tidegate.json
or for a folder, in the settings:
  yaml.schemas: {\"./tidegate.json\": \"mesh/*.yaml\"}";

/// What files of cases are called here.
const CASES: &str = "cases";

#[derive(Debug, clap::Args)]
pub(crate) struct SchemaArgs {
    /// A kind, or `cases`
    #[arg(conflicts_with = "all")]
    kind: Option<String>,
    /// A document of any kind
    #[arg(long)]
    all: bool,
    /// Write files here instead: that of KIND, or with --all those of every kind
    #[arg(long, value_name = "DIR")]
    out: Option<PathBuf>,
}

pub(crate) fn command(args: &SchemaArgs) -> Result<Done> {
    let schemas = match (&args.kind, args.all) {
        (Some(kind), _) => vec![(kind.clone(), of(kind)?)],
        (None, true) if args.out.is_some() => everything()?,
        (None, true) => vec![(String::from("all"), editor::of_any())],
        (None, false) if args.out.is_some() => bail!("write --all, or name a kind"),
        (None, false) => {
            say::text(&list());
            return Ok(Done::Well);
        }
    };
    match &args.out {
        Some(folder) => write(folder, &schemas)?,
        None => schemas.iter().try_for_each(|(_, schema)| text(schema).map(|text| say::text(&text)))?,
    }
    Ok(Done::Well)
}

fn of(kind: &str) -> Result<Json> {
    if kind == CASES {
        return Ok(editor::of_cases());
    }
    if let Some(schema) = editor::of_kind(kind) {
        return Ok(schema);
    }
    let same = editor::kinds().find(|(known, _)| known.eq_ignore_ascii_case(kind)).map(|(known, _)| known);
    match same {
        Some(known) => bail!("there is no kind `{kind}`: did you mean `{known}`?"),
        None => {
            let names: Vec<_> = editor::kinds().map(|(known, _)| known).chain([CASES]).collect();
            bail!("there is no kind `{kind}`; there are {}", names.join(", "))
        }
    }
}

fn everything() -> Result<Vec<(String, Json)>> {
    let kinds = editor::kinds().map(|(kind, _)| Ok((kind.to_owned(), of(kind)?)));
    let mut all = kinds.collect::<Result<Vec<_>>>()?;
    all.push((String::from("all"), editor::of_any()));
    all.push((CASES.to_owned(), editor::of_cases()));
    Ok(all)
}

fn list() -> String {
    let mut out = String::new();
    for (kind, about) in editor::kinds() {
        let line = format!("{kind:24} {}", about.unwrap_or("As Kubernetes or the Gateway API has it."));
        let _ = writeln!(out, "{line}");
    }
    let _ = writeln!(out, "{CASES:24} A file of cases, as `tidegate test` runs them.");
    out
}

fn write(folder: &Path, schemas: &[(String, Json)]) -> Result<()> {
    fs::create_dir_all(folder).with_context(|| folder.display().to_string())?;
    for (name, schema) in schemas {
        let path = folder.join(format!("{name}.json"));
        fs::write(&path, text(schema)?).with_context(|| path.display().to_string())?;
    }
    Ok(())
}

fn text(schema: &Json) -> Result<String> {
    Ok(serde_json::to_string_pretty(schema)? + "\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_kind_has_a_file_and_so_have_cases_and_all_together() {
        let folder = tempfile::tempdir().unwrap();
        let out = Some(folder.path().to_owned());
        command(&SchemaArgs { kind: None, all: true, out }).unwrap();
        let names: Vec<_> =
            fs::read_dir(folder.path()).unwrap().map(|entry| entry.unwrap().file_name()).collect();
        assert_eq!(names.len(), editor::kinds().count() + 2);
        let text = fs::read_to_string(folder.path().join("RateLimitPolicy.json")).unwrap();
        let schema: Json = serde_json::from_str(&text).unwrap();
        assert_eq!(schema["properties"]["kind"]["const"], "RateLimitPolicy");
    }

    #[test]
    fn a_kind_that_there_is_not_is_told_with_those_that_there_are() {
        assert!(of("ratelimitpolicy").unwrap_err().to_string().contains("did you mean `RateLimitPolicy`?"));
        assert!(of("x").unwrap_err().to_string().contains("RateLimitPolicy, CircuitBreakerPolicy"));
        assert_eq!(of("cases").unwrap()["title"], "CaseFile");
    }
}
