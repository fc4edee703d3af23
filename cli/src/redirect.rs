//! `tidegate redirect`: leads the connections of a network namespace to its sidecar, by iptables.
//!
//! What a pod's init container runs. The rules are in chains of our own and are swapped as a whole, so that it may run again
//! at any time, with other flags; `--cleanup` leaves nothing behind. DNS by UDP is none of its business. Where the node's
//! CNI plugin has set the rules, the init container has no rights and only sees whether they hold: `--verify`.

mod verify;

use std::num::NonZeroU16;

use anyhow::Result;
use ipnet::IpNet;
use tidegate_redirect::{Family, Found, Inbound, Rules, script, tables};

use crate::exit::Done;
use crate::say;

pub(crate) const EXAMPLES: &str = "\
Examples:
  tidegate redirect --uid 15001 --outbound-port 15001
      every TCP connection that is opened here, but for the sidecar's own
  tidegate redirect --uid 15001 --outbound-port 15001 \\
      --inbound-port 15006 --inbound 3000 --exclude-outbound 5432
      and those that come in for port 3000; a database is called directly
  tidegate redirect --uid 15001 --outbound-port 15001 --print
      what it would do, as iptables-restore reads it
  tidegate redirect --uid 15001 --outbound-port 15001 --verify
      is it so already? Needs no rights, but the sidecar not to run yet
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
    #[arg(long, value_name = "PORTS", requires = "inbound_port")]
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
    #[arg(long, conflicts_with_all = ["uid", "outbound_port", "inbound_port", "inbound", "print", "verify"])]
    cleanup: bool,
    /// Change nothing: open a connection to an address that is nobody's, and see whether it is led to the sidecar's port.
    /// Exit code 1 if it is not
    #[arg(long, requires = "outbound_port", conflicts_with = "print")]
    verify: bool,
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
    if let (true, Some(rules)) = (args.verify, &rules) {
        return verify::command(rules);
    }
    if !args.print {
        tables::apply(rules.as_ref())?;
        return Ok(Done::Well);
    }
    for family in [Family::V4, Family::V6] {
        say::line(&format!("# {}", family.restore()));
        say::text(&script(rules.as_ref(), family, Found::default()));
    }
    Ok(Done::Well)
}
