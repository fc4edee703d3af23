//! The demo's processes: a control plane, three services, and a sidecar for each, all of them this program.

use std::fmt::Display;
use std::path::Path;
use std::time::Duration;

use anyhow::{Context as _, Result};
use tokio::net::TcpStream;

use super::layout::{self, NAMESPACE, Workload, loopback};
use super::process::Process;
use crate::http_client::Client;

/// How long any of the processes may take to be ready: generous, for a busy machine.
const PATIENCE: Duration = Duration::from_secs(20);

/// One look at a readiness page.
const LOOK: Duration = Duration::from_secs(2);

#[derive(Debug)]
pub(crate) struct Mesh {
    control_plane: Process,
    /// In the order of their start; stopped the other way round.
    processes: Vec<Process>,
}

impl Mesh {
    /// Starts everything and waits until every sidecar has its configuration. Access logs grow with the load, so
    /// they are written on request only.
    ///
    /// # Errors
    /// Which process would not start or become ready, with the end of its log.
    pub(crate) async fn start(policies: &Path, logs: &Path, access_logs: bool) -> Result<Self> {
        let program = std::env::current_exe().context("cannot find this program's own file")?;
        let control_plane = Process::start(&program, "control-plane", &control_plane_args(policies), logs)?;
        let mut mesh = Self { control_plane, processes: Vec::new() };
        for workload in layout::WORKLOADS {
            let (app, mut sidecar) = (service_args(&workload), sidecar_args(&workload));
            flag(&mut sidecar, "--access-log", if access_logs { "stdout" } else { "off" });
            mesh.processes.push(Process::start(&program, workload.name, &app, logs)?);
            let name = format!("{}-sidecar", workload.name);
            mesh.processes.push(Process::start(&program, &name, &sidecar, logs)?);
        }
        mesh.wait_ready().await?;
        Ok(mesh)
    }

    async fn wait_ready(&mut self) -> Result<()> {
        let mut waits = vec![Ready::Page(layout::CONTROL_PLANE_HTTP)];
        for workload in layout::WORKLOADS {
            waits.extend([Ready::Accepts(workload.app), Ready::Page(workload.admin)]);
        }
        let processes = std::iter::once(&mut self.control_plane).chain(&mut self.processes);
        for (process, ready) in processes.zip(waits) {
            process.wait_ready(PATIENCE, async || ready.check().await).await?;
        }
        Ok(())
    }

    /// Says if the control plane was killed; it is started again, and no request notices.
    ///
    /// # Errors
    /// Which process has ended on its own, with the end of its log. Without a sidecar or a service there is nothing
    /// more to show.
    pub(crate) fn check(&mut self) -> Result<Option<String>> {
        self.processes.iter_mut().try_for_each(Process::check)?;
        self.control_plane.revive()
    }

    /// Drains everything, callers before those they call.
    pub(crate) async fn stop(self) {
        for process in std::iter::once(self.control_plane).chain(self.processes).rev() {
            if let Err(error) = process.stop().await {
                tracing::warn!("{error:#}");
            }
        }
    }
}

/// How a process shows that it is ready.
enum Ready {
    Page(u16),
    Accepts(u16),
}

impl Ready {
    async fn check(&self) -> bool {
        match self {
            Self::Page(port) => Client::new(loopback(*port), LOOK).get_text("/ready").await.is_ok(),
            Self::Accepts(port) => TcpStream::connect(loopback(*port)).await.is_ok(),
        }
    }
}

fn control_plane_args(policies: &Path) -> Vec<String> {
    let mut args = vec![String::from("control-plane"), String::from("--policies")];
    args.push(policies.display().to_string());
    flag(&mut args, "--listen", loopback(layout::CONTROL_PLANE_XDS));
    flag(&mut args, "--admin", loopback(layout::CONTROL_PLANE_HTTP));
    args
}

fn service_args(workload: &Workload) -> Vec<String> {
    let mut args = vec![String::from("demo-service"), workload.name.to_owned()];
    flag(&mut args, "--listen", loopback(workload.app));
    if let Some(outbound) = workload.outbound {
        flag(&mut args, "--outbound", loopback(outbound));
    }
    if workload.name == layout::CHECKOUT_V2.name {
        args.push(String::from("--flaky"));
    }
    args
}

fn sidecar_args(workload: &Workload) -> Vec<String> {
    let mut args = vec![String::from("proxy")];
    flag(&mut args, "--control-plane", format_args!("http://{}", loopback(layout::CONTROL_PLANE_XDS)));
    flag(&mut args, "--node", format_args!("{}-sidecar", workload.name));
    flag(&mut args, "--namespace", NAMESPACE);
    for service in workload.serves {
        flag(&mut args, "--service", service);
    }
    flag(&mut args, "--inbound", loopback(workload.inbound));
    flag(&mut args, "--app", loopback(workload.app));
    if let Some(outbound) = workload.outbound {
        flag(&mut args, "--outbound", loopback(outbound));
    }
    flag(&mut args, "--admin", loopback(workload.admin));
    flag(&mut args, "--workers", 1);
    args
}

fn flag(args: &mut Vec<String>, name: &str, value: impl Display + Copy) {
    args.extend([name.to_owned(), value.to_string()]);
}
