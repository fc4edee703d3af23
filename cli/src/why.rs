//! `tidegate why`: what a running mesh keeps of one request, hop by hop, with the line of YAML that decided.

mod ask;
mod render;

use std::io;

use anyhow::Result;
use http::Uri;
use tidegate_control_plane::decisions::Why;

use crate::exit::Done;
use crate::{logging, runtime, say};

pub(crate) const EXAMPLES: &str = "\
Examples:
  tidegate why 4bf92f3577b34da6a3ce929d0e0e4736    a trace id
  tidegate why 9c1f0a52-7b7e-4c8a-8d0e-1f2a3b4c5d6e
      a request id, as x-request-id and the access log have it
  tidegate why ID --control-plane http://10.0.0.7:15014
  tidegate why ID --admin http://10.0.0.9:15020 --admin http://10.0.0.8:15020
      these proxies, without a control plane

Proxies keep the newest refused requests, those that asked to be explained, and
one of a hundred others.

Exit codes: 0 found, 1 not found, 2 not found and not all could be asked.";

#[derive(Debug, clap::Args)]
pub(crate) struct WhyArgs {
    /// A trace id or a request id
    #[arg(value_name = "ID")]
    id: String,
    /// The control plane's admin address: it asks the proxies that are connected to it
    #[arg(long, env = "TIDEGATE_STATUS_URL", value_name = "URL", default_value = "http://127.0.0.1:15014")]
    control_plane: Uri,
    /// Ask this proxy, at its admin address, instead; repeat for several
    #[arg(long, value_name = "URL")]
    admin: Vec<Uri>,
    /// Print what is known as JSON
    #[arg(long)]
    json: bool,
}

pub(crate) fn command(args: &WhyArgs) -> Result<Done> {
    logging::start("warn");
    let why = runtime::one()?.block_on(async {
        if args.admin.is_empty() {
            ask::control_plane(&args.control_plane, &args.id).await
        } else {
            Ok(ask::proxies(&args.admin, &args.id).await)
        }
    })?;
    say::text(&if args.json {
        format!("{}\n", serde_json::to_string_pretty(&why)?)
    } else {
        render::text(&why, logging::colour(&io::stdout()))
    });
    Ok(done(&why))
}

/// Who was not asked may know it: only when all have said no, it is no.
fn done(why: &Why) -> Done {
    match (why.hops.is_empty(), why.unanswered) {
        (false, _) => Done::Well,
        (true, 0) => Done::ChecksFailed,
        (true, _) => Done::Unusable,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn not_found_is_another_answer_than_not_asked() {
        let why = |hops: usize, unanswered| Why {
            hops: vec![tidegate_policy::decision::DecisionRecord::default(); hops],
            unanswered,
            ..Why::default()
        };
        assert_eq!(done(&why(1, 3)), Done::Well);
        assert_eq!(done(&why(0, 0)), Done::ChecksFailed);
        assert_eq!(done(&why(0, 1)), Done::Unusable);
    }
}
