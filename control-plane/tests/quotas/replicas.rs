//! Several control planes that lend of the same limits.

use tidegate_control_plane::{
    ControlPlaneArgs, ControllerArgs, IdentityArgs, PeersError, QuotaArgs, StartError, start,
};
use tidegate_quota::{BucketId, Fallback, Lease, Share, State, owner};
use tidegate_xds::quota::{MESH_DOMAIN, Names, bucket_action, bucket_id, usage_reports};
use tokio::time::{Duration, Instant};
use tonic::Code;

use crate::front::Front;
use crate::support::{Mesh, Peer, RATE, names, plain, until};
use crate::{ABANDONED, WHOLE};

/// Less than the time for which shares are lent, by what passes between two reports.
const LEASE: Duration = Duration::from_secs(2);

/// Each behind an address that it is known by, the one first that lends of the limit `all`.
struct Replicas {
    fronts: Vec<Front>,
    meshes: Vec<Mesh>,
}

impl Replicas {
    async fn start(many: usize) -> Self {
        let mut fronts = Vec::new();
        for _ in 0..many {
            fronts.push(Front::new().await);
        }
        let owner = owner_of(bucket_id(MESH_DOMAIN, &names("all")), &fronts);
        fronts.swap(0, owner);
        let mut replicas = Self { fronts, meshes: Vec::new() };
        for i in 0..many {
            let mesh = replicas.run(i, true).await;
            replicas.meshes.push(mesh);
        }
        for mesh in &replicas.meshes {
            mesh.until_number("quota_peers_connected", many as u64 - 1).await;
        }
        replicas
    }

    async fn run(&self, i: usize, is_first: bool) -> Mesh {
        let quota_peers = self.fronts.iter().map(|front| front.name.clone()).collect();
        let quota = QuotaArgs { quota_peers, quota_name: Some(self.fronts[i].name.clone()) };
        let mesh = Mesh::start_as(quota, is_first).await;
        self.fronts[i].lead_to(Some(mesh.running.grpc));
        mesh
    }

    /// One client at each.
    async fn clients(&self) -> Vec<Peer> {
        let mut clients = Vec::new();
        for (id, mesh) in (1..).zip(&self.meshes) {
            clients.push(mesh.peer(id, "all").await);
        }
        clients
    }
}

fn owner_of(bucket: BucketId, fronts: &[Front]) -> usize {
    let owner = owner(bucket, fronts.iter().map(|front| front.name.as_str()));
    fronts.iter().position(|front| Some(front.name.as_str()) == owner).unwrap()
}

fn sum(clients: &[&mut Peer]) -> u64 {
    let sum = clients.iter().map(|client| client.share()).sum();
    assert!(sum <= WHOLE, "more is lent than there is: {sum}");
    sum
}

/// Lets them report until it is as wanted, and never is more lent than there is.
async fn until_all(clients: &mut [Peer], mut wanted: impl FnMut(&[&mut Peer]) -> bool) {
    let mut clients: Vec<&mut Peer> = clients.iter_mut().collect();
    until(&mut clients, |clients| {
        sum(clients);
        wanted(clients)
    })
    .await;
}

/// All of it is lent but the reserve, and about evenly.
fn is_shared(clients: &[&mut Peer]) -> bool {
    let even = WHOLE / clients.len() as u64;
    let (least, most) = (even * 8 / 10, even * 12 / 10);
    sum(clients) > WHOLE * 95 / 100 && clients.iter().all(|client| (least..most).contains(&client.share()))
}

/// What all may admit since then: each may have one request although its part of the burst is less.
fn bound(since: Instant, clients: &[Peer]) -> u64 {
    let earned = since.elapsed().as_millis() as u64 * RATE.requests / 1000;
    RATE.burst + earned + clients.len() as u64
}

fn admitted(clients: &[Peer]) -> u64 {
    clients.iter().map(Peer::admitted).sum()
}

#[tokio::test]
async fn clients_of_two_and_of_three_replicas_share_one_limit() {
    for many in [2, 3] {
        let replicas = Replicas::start(many).await;
        let begun = Instant::now();
        let mut clients = replicas.clients().await;
        until_all(&mut clients, is_shared).await;
        let shared = Instant::now();
        until_all(&mut clients, |_| shared.elapsed() > Duration::from_secs(1)).await;
        let (admitted, bound) = (admitted(&clients), bound(begun, &clients));
        assert!(admitted <= bound, "{many}: {admitted} of {bound}");
        for (i, mesh) in replicas.meshes.iter().enumerate() {
            assert_eq!(mesh.number("quota_buckets").await, u64::from(i == 0));
            let relayed = mesh.number("quota_messages_total{message=\"relayed\"}").await;
            assert_eq!(relayed > 0, i != 0);
            assert_eq!(mesh.number("quota_messages_total{message=\"misdirected\"}").await, 0);
        }
    }
}

#[tokio::test]
async fn without_the_one_that_lends_shares_run_out_and_when_it_is_back_they_are_lent_again() {
    let mut replicas = Replicas::start(3).await;
    let begun = Instant::now();
    let mut clients = replicas.clients().await;
    until_all(&mut clients, is_shared).await;

    let last = Instant::now();
    replicas.fronts[0].lead_to(None);
    replicas.meshes.remove(0).running.shutdown().await;
    drop(clients[0].reconnect(&replicas.meshes[0]).await);
    let holds = |client: &mut Peer| client.state() != State::Fallback || last.elapsed() > LEASE;
    assert!(clients.iter_mut().all(holds), "what is lent stays lent");
    for mesh in &replicas.meshes {
        mesh.until_number("quota_peers_connected", 1).await;
    }
    until_all(&mut clients, |clients| clients.iter().all(|client| client.share() == 0)).await;
    assert!(clients.iter_mut().all(|client| client.state() == State::Fallback));
    let mut unsent = 0;
    for mesh in &replicas.meshes {
        assert_eq!(mesh.number("quota_buckets").await, 0, "nobody lends in its place");
        unsent += mesh.number("quota_messages_total{message=\"unsent\"}").await;
    }
    assert!(unsent > 0);

    let _back = replicas.run(0, false).await;
    until_all(&mut clients, is_shared).await;
    let (admitted, bound) = (admitted(&clients), bound(begun, &clients));
    assert!(admitted <= bound, "{admitted} of {bound}");
}

#[tokio::test]
async fn one_that_restarts_is_told_through_the_others_what_is_held_and_lends_no_more_than_is_left() {
    let mut replicas = Replicas::start(2).await;
    let begun = Instant::now();
    let mut clients = replicas.clients().await;
    until_all(&mut clients, is_shared).await;
    replicas.fronts[0].lead_to(None);
    replicas.meshes.remove(0).running.shutdown().await;
    let back = replicas.run(0, false).await;
    drop(clients[0].reconnect(&back).await);
    // One that joins makes it lend anew, beside what it only heard of.
    clients.push(replicas.meshes[0].peer(3, "all").await);
    until_all(&mut clients, is_shared).await;
    assert_eq!(back.number("quota_clients").await, 3);
    let (admitted, bound) = (admitted(&clients), bound(begun, &clients));
    assert!(admitted <= bound, "{admitted} of {bound}");
}

#[tokio::test]
async fn what_replicas_that_are_cut_off_hold_goes_to_others_only_when_it_has_run_out() {
    let replicas = Replicas::start(2).await;
    let begun = Instant::now();
    let mut clients = replicas.clients().await;
    until_all(&mut clients, is_shared).await;
    replicas.fronts[0].lead_to(None);
    until_all(&mut clients, |clients| clients[0].share() == WHOLE).await;
    assert_eq!(clients[1].state(), State::Fallback);
    replicas.fronts[0].lead_to(Some(replicas.meshes[0].running.grpc));
    until_all(&mut clients, is_shared).await;
    let (admitted, bound) = (admitted(&clients), bound(begun, &clients));
    assert!(admitted <= bound, "{admitted} of {bound}");
}

#[tokio::test]
async fn a_client_that_goes_to_another_replica_keeps_its_share_and_is_told_there() {
    let replicas = Replicas::start(3).await;
    let mut clients = replicas.clients().await;
    until_all(&mut clients, is_shared).await;
    let before = clients[1].version();
    drop(clients[1].reconnect(&replicas.meshes[2]).await);
    assert!(clients[1].share() > 0);
    let leaver = clients.remove(0);
    let _still_open = leaver.leave().await;
    until_all(&mut clients, is_shared).await;
    assert!(clients[0].version() > before);
}

#[tokio::test]
async fn a_plain_envoy_gets_its_token_bucket_from_whichever_replica_lends() {
    let replicas = Replicas::start(2).await;
    let user = |name: String| Names::from([(String::from("user"), name)]);
    let is_foreign = |name: &String| owner_of(bucket_id("edge", &user(name.clone())), &replicas.fronts) == 0;
    let name = (0..).map(|i| format!("ann-{i}")).find(is_foreign).unwrap();
    let mut envoy = replicas.meshes[1].stream().await;
    envoy.say(plain("edge", "user", &[&name])).await;
    let told = envoy.next().await.unwrap();
    assert_eq!(told.bucket_action[0].bucket_id.as_ref().unwrap().bucket, user(name));
    let Some(bucket_action::BucketAction::QuotaAssignmentAction(assigned)) =
        &told.bucket_action[0].bucket_action
    else {
        panic!("{told:?}");
    };
    assert!(assigned.rate_limit_strategy.is_some() && assigned.lease.is_none());
    assert_eq!(replicas.meshes[0].number("quota_buckets").await, 1);
}

#[tokio::test]
async fn what_was_relayed_to_the_wrong_replica_is_dropped_and_counted() {
    let replicas = Replicas::start(2).await;
    let none = Fallback::Share(Share::NONE);
    let names = names("all");
    let mut lease = Lease::new(1, bucket_id(MESH_DOMAIN, &names), RATE, none, Duration::ZERO);
    let mut unknown = names.clone();
    unknown.insert(String::from("limit"), String::from("other"));
    let reports = [names, unknown].map(|names| (names, lease.report(Duration::from_secs(1))));

    let wrong = &replicas.meshes[1];
    let mut stream = wrong.stream_of(Some(&replicas.fronts[0].name)).await.unwrap();
    stream.say(usage_reports(MESH_DOMAIN, &reports)).await;
    wrong.until_number("quota_messages_total{message=\"misdirected\"}", 1).await;
    wrong.until_number(ABANDONED, 1).await;
    for message in ["relayed", "unsent"] {
        assert_eq!(wrong.number(&format!("quota_messages_total{{message=\"{message}\"}}")).await, 0);
    }
    assert_eq!((wrong.number("quota_buckets").await, wrong.number("quota_clients").await), (0, 0));

    for stranger in ["10.0.0.1:1", &replicas.fronts[1].name] {
        let refused = wrong.stream_of(Some(stranger)).await.err().unwrap();
        assert_eq!(refused.code(), Code::FailedPrecondition);
    }
    assert!(
        Mesh::start().await.stream_of(Some(&replicas.fronts[0].name)).await.is_err(),
        "one alone has no peers"
    );
}

#[tokio::test]
async fn a_list_without_the_replica_itself_is_an_error_at_the_start() {
    let directory = tempfile::tempdir().unwrap();
    let any = "127.0.0.1:0".parse().unwrap();
    let quota = QuotaArgs { quota_peers: vec![String::from("b:1"), String::from("c:1")], quota_name: None };
    let args = ControlPlaneArgs {
        identity: IdentityArgs::default(),
        policies: Some(directory.path().to_owned()),
        listen: any,
        admin: any,
        classes: ControllerArgs::default(),
        status_file: None,
        quota,
        is_first: true,
    };
    let error = start(&args).await.unwrap_err();
    assert!(matches!(error, StartError::Peers(PeersError::Missing { .. })), "{error}");
    assert_eq!(error.exit_code(), 2);
}
