use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::pin::Pin;
use std::time::Duration;

use futures_util::stream;
use tempfile::TempDir;
use tidegate_control_plane::{ControlPlaneArgs, ControllerArgs, IdentityArgs, QuotaArgs, Running, start};
use tidegate_quota::{Assignment, Fallback, Lease, Rate, Report, Share, State, Version};
use tidegate_xds::quota::{
    BucketNames, BucketQuotaUsage, MESH_DOMAIN, Names, RELAYED_BY, RateLimitQuotaResponse,
    RateLimitQuotaServiceClient, RateLimitQuotaUsageReports, assignments, bucket_id, usage_reports,
};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::sync::mpsc;
use tokio::time::{Instant, timeout, timeout_at};
use tonic::{Request, Status, Streaming};

pub(crate) const PATIENCE: Duration = Duration::from_secs(30);
const ANY: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), 0);
/// How often a peer reports.
const PACE: Duration = Duration::from_millis(50);

/// A lease ends three seconds after the last report.
const POLICIES: &str = "\
apiVersion: tidegate.io/v1alpha1
kind: RateLimitPolicy
metadata: {name: shared}
spec:
  targetRefs: [{group: '', kind: Namespace, name: default}]
  scope: Mesh
  mesh: {keepShare: 1s}
  limits: [{name: all, requests: 1000, per: 1s, burst: 100}]
---
apiVersion: tidegate.io/v1alpha1
kind: RateLimitPolicy
metadata: {name: edge}
spec:
  domain: edge
  limits: [{name: per-user, requests: 1000, per: 1s, key: [{type: Descriptor, name: user}]}]
";
pub(crate) const RATE: Rate = Rate { requests: 1000, per: Duration::from_secs(1), burst: 100 };

/// Names of a bucket of the policy that the mesh shares.
pub(crate) fn names(limit: &str) -> Names {
    let pairs = [("policy", "default/shared"), ("limit", limit), ("key", "x")];
    pairs.into_iter().map(|(name, value)| (name.to_owned(), value.to_owned())).collect()
}

/// What an Envoy says that knows no leases, of one bucket for each value.
pub(crate) fn plain(domain: &str, name: &str, values: &[&str]) -> RateLimitQuotaUsageReports {
    let usages = values.iter().map(|value| BucketQuotaUsage {
        bucket_id: Some(BucketNames { bucket: [(name.to_owned(), (*value).to_owned())].into() }),
        time_elapsed: Duration::from_secs(1).try_into().ok(),
        num_requests_allowed: 100,
        ..BucketQuotaUsage::default()
    });
    RateLimitQuotaUsageReports { domain: domain.to_owned(), bucket_quota_usages: usages.collect() }
}

/// A control plane that is the first one.
pub(crate) struct Mesh {
    pub(crate) running: Running,
    _policies: TempDir,
}

impl Mesh {
    pub(crate) async fn start() -> Self {
        Self::start_as(QuotaArgs::default(), true).await
    }

    pub(crate) async fn start_as(quota: QuotaArgs, is_first: bool) -> Self {
        let policies = tempfile::tempdir().unwrap();
        std::fs::write(policies.path().join("limits.yaml"), POLICIES).unwrap();
        let args = ControlPlaneArgs {
            identity: IdentityArgs::default(),
            policies: Some(policies.path().to_owned()),
            listen: ANY,
            admin: ANY,
            classes: ControllerArgs::default(),
            status_file: None,
            quota,
            is_first,
        };
        let running = start(&args).await.unwrap();
        assert_eq!(running.status().diagnostics, []);
        Self { running, _policies: policies }
    }

    /// One connection, one stream.
    pub(crate) async fn stream(&self) -> Stream {
        self.stream_of(None).await.unwrap()
    }

    /// The same, as the replica of this name.
    pub(crate) async fn stream_of(&self, replica: Option<&str>) -> Result<Stream, Status> {
        let address = format!("http://{}", self.running.grpc);
        let mut client = RateLimitQuotaServiceClient::connect(address).await.unwrap();
        let (reports, queue) = mpsc::channel(1);
        let queue =
            stream::unfold(queue, async |mut queue: mpsc::Receiver<_>| Some((queue.recv().await?, queue)));
        let mut request = Request::new(queue);
        if let Some(replica) = replica {
            request.metadata_mut().insert(RELAYED_BY, replica.parse().unwrap());
        }
        let responses = client.stream_rate_limit_quotas(request).await?.into_inner();
        Ok(Stream { reports, responses })
    }

    pub(crate) async fn peer(&self, id: u64, limit: &str) -> Peer {
        let names = names(limit);
        let none = Fallback::Share(Share::NONE);
        let lease = Lease::new(id, bucket_id(MESH_DOMAIN, &names), RATE, none, Duration::ZERO);
        let (start, stream) = (Instant::now(), self.stream().await);
        Peer { stream, names, lease, start, says_domain: true, taken: None, admitted: 0 }
    }

    /// One number of `/metrics`: `name{labels} value`, without the prefix of them all.
    pub(crate) async fn number(&self, name: &str) -> u64 {
        let mut stream = TcpStream::connect(self.running.admin).await.unwrap();
        stream.write_all(b"GET /metrics HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n").await.unwrap();
        let mut page = String::new();
        stream.read_to_string(&mut page).await.unwrap();
        let start = format!("tidegate_control_plane_{name} ");
        let line = page.lines().find_map(|line| line.strip_prefix(&start));
        line.unwrap_or_else(|| panic!("no {name} in {page}")).parse().unwrap()
    }

    pub(crate) async fn until_number(&self, name: &str, wanted: u64) {
        let came = async { while self.number(name).await != wanted {} };
        if timeout(PATIENCE, came).await.is_err() {
            panic!("{name} is {} and not {wanted}", self.number(name).await);
        }
    }
}

pub(crate) struct Stream {
    reports: mpsc::Sender<RateLimitQuotaUsageReports>,
    responses: Streaming<RateLimitQuotaResponse>,
}

impl Stream {
    pub(crate) async fn say(&mut self, message: RateLimitQuotaUsageReports) {
        self.reports.send(message).await.unwrap();
    }

    pub(crate) async fn next(&mut self) -> Result<RateLimitQuotaResponse, Status> {
        let next = timeout(PATIENCE, self.responses.message()).await;
        next.unwrap()?.ok_or_else(|| Status::ok("the stream has ended"))
    }
}

/// A client with one lease, that always wants more than there is.
pub(crate) struct Peer {
    stream: Stream,
    names: Names,
    lease: Lease,
    start: Instant,
    says_domain: bool,
    taken: Option<Version>,
    admitted: u64,
}

impl Peer {
    /// In billionths.
    pub(crate) fn share(&self) -> u64 {
        match self.lease.state(self.start.elapsed()) {
            State::Fallback => 0,
            State::Assigned | State::Reused => self.lease.share().unwrap_or_default().as_billionths(),
        }
    }

    /// Requests so far.
    pub(crate) fn admitted(&self) -> u64 {
        self.admitted
    }

    /// Of the latest assignment that came.
    pub(crate) fn version(&self) -> Option<Version> {
        self.taken
    }

    pub(crate) fn state(&mut self) -> State {
        let now = self.start.elapsed();
        self.lease.tick(now);
        self.lease.state(now)
    }

    pub(crate) async fn next(&mut self) -> Result<RateLimitQuotaResponse, Status> {
        self.stream.next().await
    }

    pub(crate) async fn report(&mut self) {
        let now = self.start.elapsed();
        while self.lease.cell().take(1, now).is_ok() {
            self.admitted += 1;
        }
        self.lease.cell().check(100, now).unwrap_err();
        let report = self.lease.report(now);
        self.say(report).await;
    }

    pub(crate) async fn say_domain_only(&mut self) {
        self.says_domain = false;
        self.stream.say(usage_reports(MESH_DOMAIN, &[])).await;
    }

    pub(crate) async fn leave(mut self) -> Stream {
        let report = self.lease.leave(self.start.elapsed());
        self.say(report).await;
        self.stream
    }

    async fn say(&mut self, report: Report) {
        let mut message = usage_reports(MESH_DOMAIN, &[(self.names.clone(), report)]);
        // As the protocol has it: in the first message only.
        if !std::mem::take(&mut self.says_domain) {
            message.domain.clear();
        }
        self.stream.say(message).await;
    }

    /// Speaks over a stream of its own from now on. Returns the one before.
    pub(crate) async fn reconnect(&mut self, mesh: &Mesh) -> Stream {
        self.says_domain = true;
        std::mem::replace(&mut self.stream, mesh.stream().await)
    }

    /// What comes within the pace.
    async fn listen(&mut self) {
        let end = Instant::now() + PACE;
        while let Ok(response) = timeout_at(end, self.stream.next()).await {
            for assignment in assignments(&response.unwrap(), MESH_DOMAIN) {
                self.assign(&assignment).await;
            }
        }
        self.lease.tick(self.start.elapsed());
    }

    async fn assign(&mut self, assignment: &Assignment) {
        self.taken = self.taken.max(Some(assignment.version));
        if self.lease.assign(assignment, self.start.elapsed()) {
            self.report().await;
        }
    }
}

/// Lets peers report and listen in turn until it is as wanted.
pub(crate) async fn until(peers: &mut [&mut Peer], mut wanted: impl FnMut(&[&mut Peer]) -> bool) {
    let deadline = Instant::now() + PATIENCE;
    while !wanted(peers) {
        let shares: Vec<u64> = peers.iter().map(|peer| peer.share()).collect();
        assert!(Instant::now() < deadline, "never came; last: {shares:?}");
        for peer in peers.iter_mut() {
            let turn: Pin<Box<dyn Future<Output = ()>>> = Box::pin(async {
                peer.report().await;
                peer.listen().await;
            });
            turn.await;
        }
    }
}
