//! `tidegate status`: what a running control plane says of every object.

mod backends;

use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use anyhow::{Context as _, Result, anyhow, bail};
use http::Uri;
use tidegate_control_plane::status::{Condition, InForce, ObjectStatus, Status};

use crate::exit::Done;
use crate::http_client::Client;
use crate::{logging, runtime, say};

pub(crate) const EXAMPLES: &str = "\
Examples:
  tidegate status                                that of this machine
  tidegate status --url http://10.0.0.7:15014    another one
  tidegate status --json | jq '.items[].status'  as Kubernetes shows it
  tidegate status backends                       breakers and caps of a proxy

Exit code 1 when something was refused, so that a pipeline can stop there.";

/// A status page that takes longer than this is not worth waiting for.
const DEADLINE: Duration = Duration::from_secs(5);

const CONTROL_PLANE: &str = "a control plane";

#[derive(Debug, clap::Args)]
#[command(args_conflicts_with_subcommands = true)]
pub(crate) struct StatusArgs {
    #[command(subcommand)]
    of: Option<Of>,
    /// The control plane's admin address
    #[arg(long, env = "TIDEGATE_STATUS_URL", value_name = "URL", default_value = "http://127.0.0.1:15014")]
    url: Uri,
    /// Print every object as Kubernetes would show it, with its .status, as one List
    #[arg(long)]
    json: bool,
}

#[derive(Debug, clap::Subcommand)]
enum Of {
    /// Ask a proxy how each backend and endpoint does: breakers, their evidence, and caps
    #[command(after_help = backends::EXAMPLES)]
    Backends(backends::BackendsArgs),
}

pub(crate) fn command(args: &StatusArgs) -> Result<Done> {
    if let Some(Of::Backends(args)) = &args.of {
        return backends::command(args);
    }
    logging::start("warn");
    let runtime = runtime::one()?;
    let text = runtime.block_on(fetch(&args.url, "/status", CONTROL_PLANE))?;
    let status: Status = serde_json::from_str(&text)
        .with_context(|| format!("{} does not answer like a control plane of this version", args.url))?;
    say::text(&if args.json {
        runtime.block_on(fetch(&args.url, "/objects", CONTROL_PLANE))?
    } else {
        render(&status, logging::colour(&io::stdout()))
    });
    Ok(if is_clean(&status) { Done::Well } else { Done::ChecksFailed })
}

/// `who` is asked, for the message if nobody answers.
async fn fetch(url: &Uri, path: &str, who: &str) -> Result<String> {
    let authority =
        url.authority().ok_or_else(|| anyhow!("--url {url}: write it like http://127.0.0.1:15014"))?;
    if url.scheme_str().is_some_and(|scheme| scheme != "http") {
        bail!("--url {url}: the status is served over plain http");
    }
    let address = resolve(authority.host(), authority.port_u16().unwrap_or(80)).await?;
    Client::new(address, DEADLINE).get_text(path).await.with_context(|| {
        format!("cannot read the status from {url}; is {who} running there? (--url points to another)")
    })
}

pub(crate) async fn resolve(host: &str, port: u16) -> Result<SocketAddr> {
    let host = host.trim_start_matches('[').trim_end_matches(']');
    let mut addresses =
        tokio::net::lookup_host((host, port)).await.with_context(|| format!("cannot look up {host}"))?;
    addresses.next().ok_or_else(|| anyhow!("{host} has no address"))
}

/// Whether every object holds as it is written now.
fn is_clean(status: &Status) -> bool {
    !status.diagnostics.iter().any(|d| d.is_error()) && status.objects.iter().all(|o| troubles(o).is_empty())
}

/// Why an object does not hold as written: each reason in a few words, none if it does.
fn troubles(object: &ObjectStatus) -> Vec<String> {
    match object.in_force {
        InForce::Nothing => return vec![String::from("refused")],
        InForce::StandIn => return vec![String::from("refused; it denies everything until it is valid")],
        InForce::LastValid => return vec![String::from("refused; the last valid version holds")],
        InForce::Current => {}
    }
    let wrong = object.conditions.iter().filter(|condition| is_complaint(condition));
    let wrong = wrong.map(|c| format!("{}: {} {}", c.kind, c.reason, c.message).trim_end().to_owned());
    let refusal = object.programmed.as_ref().and_then(|p| Some((p.unbound, p.reason.as_ref()?)));
    let refusal = refusal.map(|(unbound, reason)| {
        let what = if unbound { "a proxy cannot bind it" } else { "a proxy refuses it" };
        format!("{what}: {reason}")
    });
    wrong.chain(refusal).collect()
}

/// Whether a condition says that something is not as its author must have meant it. `Overridden` is not such a one:
/// a namespace's default is there to be overridden.
pub(crate) fn is_complaint(condition: &Condition) -> bool {
    match condition.kind.as_str() {
        "Accepted" | "ResolvedRefs" => !condition.holds(),
        "Conflicted" => condition.holds(),
        _ => false,
    }
}

/// The table, the errors, the proxies.
fn render(status: &Status, colour: bool) -> String {
    let mut out = table(&status.objects, colour);
    if status.objects.is_empty() {
        out += "No objects.\n";
    }
    for diagnostic in &status.diagnostics {
        out += &format!("\n{}", red(&diagnostic.to_string(), diagnostic.is_error() && colour));
    }
    if !status.diagnostics.is_empty() {
        out.push('\n');
    }
    out += &match status.nodes.len() {
        0 => String::from("\nNo proxy connected.\n"),
        1 => String::from("\n1 proxy connected.\n"),
        n => format!("\n{n} proxies connected.\n"),
    };
    for node in status.nodes.iter().filter(|node| node.acknowledged < node.of || node.last_refusal.is_some())
    {
        out += &format!("  {} has {} of {} resources", node.id, node.acknowledged, node.of);
        out += &node.last_refusal.as_ref().map_or_else(String::new, |why| format!("; it refused: {why}"));
        out.push('\n');
    }
    out
}

/// One row for each object, and one more for each further thing that is wrong with it.
fn table(objects: &[ObjectStatus], colour: bool) -> String {
    let headings = ["KIND", "NAME", "PROGRAMMED", "SOURCE", "STATE"].map(str::to_owned);
    let rows: Vec<(bool, [String; 5])> =
        std::iter::once((false, headings)).chain(objects.iter().flat_map(rows)).collect();
    let width = |column: usize| rows.iter().map(|(_, row)| row[column].chars().count()).max().unwrap_or(0);
    let widths: [usize; 5] = std::array::from_fn(width);
    let line = |(bad, row): &(bool, [String; 5])| {
        let cells: Vec<String> = row.iter().zip(widths).map(|(c, width)| format!("{c:<width$}")).collect();
        red(cells.join("  ").trim_end(), *bad && colour) + "\n"
    };
    rows.iter().map(line).collect()
}

/// The rows of one object, and whether something is wrong with it.
fn rows(object: &ObjectStatus) -> Vec<(bool, [String; 5])> {
    let programmed =
        object.programmed.as_ref().map_or_else(|| String::from("-"), |p| format!("{}/{}", p.ready, p.of));
    let first = |state| [object.kind.clone(), name(object), programmed, object.source.clone(), state];
    let mut troubles = troubles(object).into_iter();
    let Some(trouble) = troubles.next() else {
        let ignored = object.condition("Ignored").map(|why| format!("ignored: {}", why.message));
        return vec![(false, first(ignored.unwrap_or_else(|| String::from("accepted"))))];
    };
    let more = troubles.map(|trouble| {
        let mut row: [String; 5] = Default::default();
        row[4] = trouble;
        (true, row)
    });
    std::iter::once((true, first(trouble))).chain(more).collect()
}

/// Kinds that belong to no namespace are shown without one.
fn name(object: &ObjectStatus) -> String {
    match object.namespace.as_str() {
        "" => object.name.clone(),
        namespace => format!("{namespace}/{}", object.name),
    }
}

fn red(text: &str, really: bool) -> String {
    if really { format!("\x1b[31m{text}\x1b[0m") } else { text.to_owned() }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tidegate_control_plane::status::Programmed;

    fn condition(kind: &str, holds: bool, reason: &str, message: &str) -> Condition {
        Condition {
            kind: kind.to_owned(),
            status: if holds { "True" } else { "False" }.to_owned(),
            reason: reason.to_owned(),
            message: message.to_owned(),
            parent: None,
        }
    }

    fn object(name: &str, in_force: InForce) -> ObjectStatus {
        ObjectStatus {
            kind: "RateLimitPolicy".into(),
            namespace: "shop".into(),
            name: name.into(),
            source: format!("{name}.yaml:3"),
            in_force,
            conditions: vec![condition("Accepted", true, "Accepted", "")],
            errors: Vec::new(),
            programmed: Some(Programmed { ready: 2, of: 3, ..Programmed::default() }),
            listeners: std::collections::BTreeMap::new(),
        }
    }

    fn status(objects: Vec<ObjectStatus>) -> Status {
        Status { objects, ..Status::default() }
    }

    #[test]
    fn what_holds_as_written_is_clean() {
        let status = status(vec![object("a", InForce::Current)]);
        assert!(is_clean(&status));
        let text = render(&status, false);
        assert!(text.contains("shop/a") && text.contains("2/3") && text.contains("a.yaml:3"), "{text}");
        assert!(text.contains("accepted"));
    }

    #[test]
    fn a_refused_object_is_not_clean_and_says_what_holds() {
        let status = status(vec![object("a", InForce::Current), object("b", InForce::LastValid)]);
        assert!(!is_clean(&status));
        assert!(render(&status, false).contains("the last valid version holds"));
        assert!(render(&status, true).contains("\x1b[31mRateLimitPolicy  shop/b"));
    }

    #[test]
    fn a_condition_that_does_not_hold_is_shown_with_its_reason() {
        let mut dangling = object("a", InForce::Current);
        dangling.conditions = vec![condition("Accepted", false, "TargetNotFound", "no Service shop/x")];
        let mut conflict = object("b", InForce::Current);
        conflict.conditions.push(condition("Conflicted", true, "Conflicted", "with shop/c"));
        let status = status(vec![dangling, conflict]);
        assert!(!is_clean(&status));
        let text = render(&status, false);
        assert!(text.contains("TargetNotFound no Service shop/x") && text.contains("with shop/c"), "{text}");
    }

    #[test]
    fn everything_that_is_wrong_with_an_object_is_shown() {
        let mut route = object("a", InForce::Current);
        route.conditions = vec![
            condition("Accepted", false, "NoMatchingParent", "no listener edge/x"),
            condition("ResolvedRefs", false, "BackendNotFound", "no Service shop/x"),
        ];
        let refused =
            Programmed { ready: 2, of: 3, reason: Some("edge: too deep".into()), ..Programmed::default() };
        route.programmed = Some(refused);
        let text = render(&status(vec![route]), false);
        for trouble in ["no listener edge/x", "no Service shop/x", "edge: too deep"] {
            assert!(text.contains(trouble), "{trouble} is not in\n{text}");
        }
    }

    #[test]
    fn no_objects_and_no_proxies_are_said_in_words() {
        let text = render(&Status::default(), false);
        assert!(text.contains("No objects.") && text.contains("No proxy connected."), "{text}");
    }
}
