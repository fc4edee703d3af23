//! `tidegate redirect`: leads the connections of a network namespace to its sidecar, by iptables.
//!
//! What a pod's init container runs. The rules are in chains of our own and are swapped as a whole, so that it may run again
//! at any time, with other flags; `--cleanup` leaves nothing behind. DNS by UDP is none of its business.

mod script;

use std::io::Write as _;
use std::num::NonZeroU16;
use std::path::Path;
use std::process::{Command, Stdio};

use anyhow::{Context as _, Result, bail};
use ipnet::IpNet;

use crate::exit::Done;
use crate::say;
use script::{Family, Found, Inbound, Rules, script};

pub(crate) const EXAMPLES: &str = "\
Examples:
  tidegate redirect --uid 15001 --outbound-port 15001
      every TCP connection that is opened here, but for the sidecar's own
  tidegate redirect --uid 15001 --outbound-port 15001 \\
      --inbound-port 15006 --inbound 3000 --exclude-outbound 5432
      and those that come in for port 3000; a database is called directly
  tidegate redirect --uid 15001 --outbound-port 15001 --print
      what it would do, as iptables-restore reads it
  tidegate redirect --cleanup
      as if nothing had been

Needs CAP_NET_ADMIN, iptables-save and iptables-restore; where the kernel has
IPv6, ip6tables too. `tidegate inject` writes an init container that runs this.";

#[derive(Debug, clap::Args)]
pub(crate) struct RedirectArgs {
    /// The user whose connections are not led anywhere: the sidecar's
    #[arg(long, value_name = "UID", required_unless_present = "cleanup")]
    uid: Option<u32>,
    /// Where the sidecar takes its application's calls
    #[arg(long, value_name = "PORT", required_unless_present_any = ["cleanup", "inbound_port"])]
    outbound_port: Option<NonZeroU16>,
    /// Where the sidecar takes what is for its application
    #[arg(long, value_name = "PORT", requires = "inbound")]
    inbound_port: Option<NonZeroU16>,
    /// The ports whose connections it takes, with commas between; `*` for all
    #[arg(long, value_name = "PORTS", requires = "inbound_port", value_parser = Inbound::parse)]
    inbound: Option<Inbound>,
    /// Ports that are reached directly from outside
    #[arg(long, value_name = "PORTS", value_delimiter = ',')]
    exclude_inbound: Vec<NonZeroU16>,
    /// Ports that are called directly, in addition to 53
    #[arg(long, value_name = "PORTS", value_delimiter = ',')]
    exclude_outbound: Vec<NonZeroU16>,
    /// Networks that are called directly, in addition to this machine itself
    #[arg(long, value_name = "CIDRS", value_delimiter = ',')]
    exclude_cidr: Vec<IpNet>,
    /// Print what would be done where nothing was done before
    #[arg(long)]
    print: bool,
    /// Take everything back
    #[arg(long, conflicts_with_all = ["uid", "outbound_port", "inbound_port", "inbound", "print"])]
    cleanup: bool,
}

impl RedirectArgs {
    fn rules(&self) -> Option<Rules> {
        let uid = self.uid.filter(|_| !self.cleanup)?;
        Some(Rules {
            uid,
            outbound: self.outbound_port,
            inbound: self.inbound_port.zip(self.inbound.clone()),
            not_inbound: self.exclude_inbound.clone(),
            not_outbound: self.exclude_outbound.clone(),
            not_cidrs: self.exclude_cidr.clone(),
        })
    }
}

pub(crate) fn command(args: &RedirectArgs) -> Result<Done> {
    let rules = args.rules();
    for family in [Family::V4, Family::V6] {
        if args.print {
            say::line(&format!("# {}", family.restore()));
            say::text(&script(rules.as_ref(), family, Found::default()));
        } else if family == Family::V4 || Path::new("/proc/net/if_inet6").exists() {
            apply(rules.as_ref(), family)?;
        }
    }
    Ok(Done::Well)
}

fn apply(rules: Option<&Rules>, family: Family) -> Result<()> {
    let tables = run(Command::new(family.save()).args(["-t", "nat"]), "")?;
    let script = script(rules, family, Found::in_tables(&tables));
    run(Command::new(family.restore()).args(["--noflush", "--wait"]), &script)?;
    Ok(())
}

/// Its output.
fn run(command: &mut Command, input: &str) -> Result<String> {
    let name = command.get_program().to_string_lossy().into_owned();
    let spawned = command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn();
    let mut child = spawned.with_context(|| format!("cannot run {name}: is iptables installed?"))?;
    if let Some(mut stdin) = child.stdin.take() {
        // One that ends early says why itself.
        let _ = stdin.write_all(input.as_bytes());
    }
    let output = child.wait_with_output().with_context(|| name.clone())?;
    if !output.status.success() {
        let told = String::from_utf8_lossy(&output.stderr);
        bail!("{name}: {} (it needs CAP_NET_ADMIN, and the kernel's NAT)", told.trim());
    }
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}
