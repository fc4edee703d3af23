//! `tidegate plugin inspect`.

use std::path::PathBuf;

use anyhow::{Context as _, Result};
use serde_json::json;
use tidegate_proxy::wasm::Inspection;

use crate::exit::Done;
use crate::say;

#[derive(Debug, clap::Args)]
pub(super) struct InspectArgs {
    /// A module in WebAssembly's binary form
    file: PathBuf,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

pub(super) fn command(args: &InspectArgs) -> Result<Done> {
    let bytes = std::fs::read(&args.file).with_context(|| args.file.display().to_string())?;
    let inspection = match Inspection::of(&bytes) {
        Ok(inspection) => inspection,
        Err(fault) => {
            if args.json {
                say::line(&json!({ "loads": false, "faults": [fault.to_string()] }).to_string());
            } else {
                say::line(&format!("{}: {fault}", args.file.display()));
            }
            return Ok(Done::ChecksFailed);
        }
    };
    if args.json {
        say::line(&as_json(&inspection).to_string());
    } else {
        say::text(&as_text(&inspection));
    }
    Ok(if inspection.faults.is_empty() { Done::Well } else { Done::ChecksFailed })
}

fn hex(inspection: &Inspection) -> String {
    inspection.digest.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn as_json(inspection: &Inspection) -> serde_json::Value {
    json!({
        "loads": inspection.faults.is_empty(),
        "faults": inspection.faults.iter().map(ToString::to_string).collect::<Vec<_>>(),
        "sha256": hex(inspection),
        "bytes": inspection.size,
        "abi": inspection.abi.map(|abi| abi.to_string()),
        "hears": { "requests": inspection.hears.requests, "connections": inspection.hears.connections },
        "imports": inspection.imports,
        "exports": inspection.exports,
        "missing": inspection.missing,
    })
}

fn as_text(inspection: &Inspection) -> String {
    let abi = inspection.abi.map_or_else(|| String::from("none that is known"), |abi| abi.to_string());
    let hears = match (inspection.hears.requests, inspection.hears.connections) {
        (true, true) => "of requests, and of connections that are carried as a whole",
        (true, false) => "of requests",
        (false, true) => "of connections that are carried as a whole",
        (false, false) => "of neither requests nor connections",
    };
    let mut text = format!("sha256   {}\nbytes    {}\nabi      {abi}\n", hex(inspection), inspection.size);
    text.push_str(&format!("hears    {hears}\n"));
    for (title, names) in [("imports", &inspection.imports), ("exports", &inspection.exports)] {
        text.push_str(&format!("{title} ({})\n", names.len()));
        names.iter().for_each(|name| text.push_str(&format!("  {name}\n")));
    }
    if inspection.faults.is_empty() {
        text.push_str("It can be loaded.\n");
    } else {
        text.push_str("It cannot be loaded:\n");
        inspection.faults.iter().for_each(|fault| text.push_str(&format!("  it {fault}\n")));
    }
    text
}
