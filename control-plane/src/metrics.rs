//! The control plane's own numbers for Prometheus, taken from the status when someone scrapes.

use std::collections::BTreeMap;
use std::fmt;
use std::time::UNIX_EPOCH;

use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, EncodeMetric, text};
use prometheus_client::metrics::MetricType;
use prometheus_client::metrics::counter::ConstCounter;
use prometheus_client::metrics::gauge::ConstGauge;
use prometheus_client::registry::Registry;

use crate::quotas::Counts;
use crate::status::{InForce, Reporter, Status};
use crate::{identity, outliers};

pub const CONTENT_TYPE: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

/// # Errors
/// Never in practice: writing to a string does not fail.
pub fn render(reporter: &Reporter) -> Result<String, fmt::Error> {
    let world = reporter.world();
    let mut registry = Registry::with_prefix("tidegate_control_plane");
    registry.register_collector(Box::new(Numbers {
        status: reporter.status(),
        files: world.files,
        lent: reporter.lent(),
        outliers: reporter.outliers(),
        certificates: reporter.certificates(),
    }));
    let mut page = String::new();
    text::encode(&mut page, &registry)?;
    Ok(page)
}

#[derive(Debug)]
struct Numbers {
    status: Status,
    files: usize,
    lent: Counts,
    outliers: outliers::Counts,
    certificates: Option<identity::Counts>,
}

impl Collector for Numbers {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> Result<(), fmt::Error> {
        let generations = ConstCounter::new(self.status.generation);
        let help = "Changes of the documents since the start";
        generations.encode(encoder.encode_descriptor("changes", help, None, MetricType::Counter)?)?;
        gauge(&mut encoder, "files", "Files read", self.files)?;
        self.objects(&mut encoder)?;
        self.diagnostics(&mut encoder)?;
        self.nodes(&mut encoder)?;
        self.quotas(&mut encoder)?;
        self.outliers(&mut encoder)?;
        self.certificates(&mut encoder)
    }
}

impl Numbers {
    fn certificates(&self, encoder: &mut DescriptorEncoder<'_>) -> Result<(), fmt::Error> {
        let Some(counts) = self.certificates else { return Ok(()) };
        let help = "Certificates asked for, by what came of it";
        let mut family = encoder.encode_descriptor("certificates", help, None, MetricType::Counter)?;
        for (result, count) in [("signed", counts.issued), ("refused", counts.refused)] {
            ConstCounter::new(count).encode(family.encode_family(&[("result", result)])?)?;
        }
        gauge(encoder, "trusted_roots", "Roots that identities are verified with", counts.roots)?;
        let expires = counts.expires.duration_since(UNIX_EPOCH).unwrap_or_default().as_secs();
        let help = "When the control plane's own certificate runs out, in seconds since the Unix epoch";
        gauge(encoder, "certificate_expires", help, usize::try_from(expires).unwrap_or(usize::MAX))
    }

    fn objects(&self, encoder: &mut DescriptorEncoder<'_>) -> Result<(), fmt::Error> {
        let mut counts = BTreeMap::<(&str, &str), usize>::new();
        for object in &self.status.objects {
            let state = match object.in_force {
                InForce::Current => "current",
                InForce::LastValid => "last_valid",
                InForce::StandIn => "stand_in",
                InForce::Nothing => "nothing",
            };
            *counts.entry((&object.kind, state)).or_default() += 1;
        }
        let help = "Objects by which version of them is in force";
        let mut family = encoder.encode_descriptor("objects", help, None, MetricType::Gauge)?;
        for ((kind, state), count) in counts {
            let labels = [("kind", kind), ("in_force", state)];
            as_gauge(count).encode(family.encode_family(&labels)?)?;
        }
        Ok(())
    }

    fn diagnostics(&self, encoder: &mut DescriptorEncoder<'_>) -> Result<(), fmt::Error> {
        let errors = self.status.diagnostics.iter().filter(|d| d.is_error()).count();
        let warnings = self.status.diagnostics.len() - errors;
        let help = "What is wrong with the documents now";
        let mut family = encoder.encode_descriptor("diagnostics", help, None, MetricType::Gauge)?;
        for (severity, count) in [("error", errors), ("warning", warnings)] {
            as_gauge(count).encode(family.encode_family(&[("severity", severity)])?)?;
        }
        Ok(())
    }

    fn nodes(&self, encoder: &mut DescriptorEncoder<'_>) -> Result<(), fmt::Error> {
        let nodes = &self.status.nodes;
        let behind = nodes.iter().filter(|node| node.acknowledged < node.of).count();
        gauge(encoder, "proxies", "Connected proxies", nodes.len())?;
        gauge(encoder, "proxies_behind", "Proxies that do not run everything they are to have", behind)
    }
}

impl Numbers {
    fn quotas(&self, encoder: &mut DescriptorEncoder<'_>) -> Result<(), fmt::Error> {
        let Counts { buckets, clients, peers, connected_peers, .. } = self.lent;
        gauge(encoder, "quota_buckets", "Buckets of shared limits that shares are lent of", buckets)?;
        gauge(encoder, "quota_clients", "Clients that report to them", clients)?;
        gauge(encoder, "quota_peers", "Other replicas that shares are lent by", peers)?;
        gauge(encoder, "quota_peers_connected", "Those that reports can be relayed to", connected_peers)?;
        self.quota_messages(encoder)
    }

    fn quota_messages(&self, encoder: &mut DescriptorEncoder<'_>) -> Result<(), fmt::Error> {
        let lent = self.lent;
        let help = "Messages of quotas: reports read, and of those the ones of buckets without a limit, or that there is no \
                    room for or are too long, those relayed to other replicas, those that were not since a replica could \
                    not be reached, and those that another relayed here though they are not lent of here; assignments \
                    sent, and those that a client did not read in time";
        let mut family = encoder.encode_descriptor("quota_messages", help, None, MetricType::Counter)?;
        let messages = [
            ("report", lent.reports),
            ("assignment", lent.assignments),
            ("dropped", lent.dropped),
            ("abandoned", lent.abandoned),
            ("beyond", lent.beyond),
            ("relayed", lent.relayed),
            ("unsent", lent.unsent),
            ("misdirected", lent.misdirected),
        ];
        for (message, count) in messages {
            ConstCounter::new(count).encode(family.encode_family(&[("message", message)])?)?;
        }
        Ok(())
    }
}

impl Numbers {
    fn outliers(&self, encoder: &mut DescriptorEncoder<'_>) -> Result<(), fmt::Error> {
        let outliers::Counts { proxies, suspects, statements, unheard, suspicions, dropped } = self.outliers;
        gauge(encoder, "outlier_proxies", "Proxies that tell which endpoints fail", proxies)?;
        gauge(encoder, "outlier_suspects", "Endpoints that proxies are told to leave alone", suspects)?;
        let help = "What was said of failing endpoints: statements of proxies, and of those the ones of what no policy \
                    shares or that there is no room for; endpoints that became suspect; proxies that did not read in time";
        let mut family = encoder.encode_descriptor("outlier_messages", help, None, MetricType::Counter)?;
        for (message, count) in
            [("statement", statements), ("unheard", unheard), ("suspicion", suspicions), ("dropped", dropped)]
        {
            ConstCounter::new(count).encode(family.encode_family(&[("message", message)])?)?;
        }
        Ok(())
    }
}

fn gauge(
    encoder: &mut DescriptorEncoder<'_>,
    name: &str,
    help: &str,
    value: usize,
) -> Result<(), fmt::Error> {
    as_gauge(value).encode(encoder.encode_descriptor(name, help, None, MetricType::Gauge)?)
}

fn as_gauge(value: usize) -> ConstGauge<i64> {
    ConstGauge::new(i64::try_from(value).unwrap_or(i64::MAX))
}
