//! Whether connections are led to the sidecar, found out without any rights: one is opened to an address that is nobody's,
//! and must come in where the sidecar will listen.
//!
//! A pod may have started on a node before the CNI plugin was there. Its application must not run then; nothing that could be
//! done from inside, without rights, would help it.

use std::io::{self, ErrorKind};
use std::net::{IpAddr, Ipv6Addr, SocketAddr};
use std::time::Duration;

use anyhow::{Context as _, Result, bail};
use tidegate_redirect::Rules;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::time::timeout;

use crate::exit::Done;
use crate::{runtime, say};

/// To get from here to here.
const PATIENCE: Duration = Duration::from_secs(3);
/// Reserved for documentation by RFC 5737 and RFC 3849: nobody has them, and no route leads to anybody.
const NOBODY: [&str; 5] = ["192.0.2.1", "198.51.100.1", "203.0.113.1", "2001:db8::1", "2001:db8:ffff::1"];
/// Where an attempt begins; 9 discards what it gets, if there were anybody after all.
const FIRST_PORT: u16 = 9;
/// An address and a port.
const MAX_WORD_BYTES: u64 = 64;

/// What became of one attempt.
#[derive(Debug, PartialEq, Eq)]
enum Seen {
    Led,
    /// There is no way out of here for this family, so none past the sidecar either.
    NoWay,
    /// It was not led here, and what came of it instead.
    Past(String),
}

pub(super) fn command(rules: &Rules) -> Result<Done> {
    let me = rustix::process::getuid().as_raw();
    if me == rules.uid {
        bail!("--verify: connections of user {me} are the sidecar's, and led nowhere: run it as another one");
    }
    let Some(port) = rules.outbound else { bail!("--verify needs --outbound-port") };
    let (led, mut past) = runtime::one()?.block_on(tried(rules, port.get()))?;
    if past.is_empty() && led > 0 {
        return Ok(Done::Well);
    }
    if past.is_empty() {
        past.push(String::from("there is no address outside that a connection could be tried with"));
    }
    past.push(String::from(
        "this pod's connections would pass its sidecar by: it was started before the CNI plugin was on its node, or by \
         another runtime configuration. Delete the pod: the next one will be set up (`tidegate-cni installed` on the node \
         says whether the plugin is there)",
    ));
    say::news(&past);
    Ok(Done::ChecksFailed)
}

/// How many attempts were led to the sidecar's port, and in words those that were not.
async fn tried(rules: &Rules, port: u16) -> Result<(usize, Vec<String>)> {
    let listener = match listen(port).await {
        Ok(listener) => Some(listener),
        // The sidecar is there already, so this has run before, or it answers itself.
        Err(error) if error.kind() == ErrorKind::AddrInUse => None,
        Err(error) => return Err(error).with_context(|| format!("cannot listen at port {port}")),
    };
    let (mut led, mut past) = (0, Vec::new());
    for to in probes(rules) {
        match probe(listener.as_ref(), to, PATIENCE).await {
            Seen::Led => led += 1,
            Seen::NoWay => {}
            Seen::Past(what) => past.push(format!("a connection to {to} was not led to port {port}: {what}")),
        }
    }
    Ok((led, past))
}

/// Both families by one socket, where the kernel has both.
async fn listen(port: u16) -> io::Result<TcpListener> {
    match TcpListener::bind((IpAddr::from(Ipv6Addr::UNSPECIFIED), port)).await {
        Err(error) if error.kind() != ErrorKind::AddrInUse => TcpListener::bind(("0.0.0.0", port)).await,
        other => other,
    }
}

/// An address of each family that the rules lead to the sidecar.
fn probes(rules: &Rules) -> Vec<SocketAddr> {
    let excluded = |port: &u16| rules.not_outbound.iter().any(|not| not.get() == *port) || *port == 53;
    let Some(port) = (FIRST_PORT..).find(|port| !excluded(port)) else { return Vec::new() };
    let nobody = NOBODY.iter().filter_map(|address| address.parse::<IpAddr>().ok());
    let led: Vec<_> = nobody.filter(|ip| !rules.not_cidrs.iter().any(|net| net.contains(ip))).collect();
    let first = |wanted: fn(&IpAddr) -> bool| led.iter().copied().find(wanted);
    let both = [first(IpAddr::is_ipv4), first(IpAddr::is_ipv6)];
    both.into_iter().flatten().map(|ip| SocketAddr::new(ip, port)).collect()
}

/// `listener`: where a connection comes in that is led to the sidecar. If somebody else has that port, a connection to nobody
/// that is answered at all was led to him.
async fn probe(listener: Option<&TcpListener>, to: SocketAddr, patience: Duration) -> Seen {
    let client = match timeout(patience, TcpStream::connect(to)).await {
        Ok(Ok(client)) => client,
        Ok(Err(error)) if is_no_way(&error) => return Seen::NoWay,
        Ok(Err(error)) => return Seen::Past(error.to_string()),
        Err(_) => return Seen::Past(String::from("nobody answered")),
    };
    let Some(listener) = listener else { return Seen::Led };
    match timeout(patience, arrives(listener, client)).await {
        Ok(Ok(())) => Seen::Led,
        Ok(Err(error)) => Seen::Past(format!("somebody else answered ({error})")),
        Err(_) => Seen::Past(String::from("somebody else answered")),
    }
}

fn is_no_way(error: &io::Error) -> bool {
    use ErrorKind::{AddrNotAvailable, NetworkUnreachable};
    let no_family = error.raw_os_error() == Some(rustix::io::Errno::AFNOSUPPORT.raw_os_error());
    no_family || matches!(error.kind(), NetworkUnreachable | AddrNotAvailable)
}

/// Ends once the listener has heard what the client says.
async fn arrives(listener: &TcpListener, mut client: TcpStream) -> io::Result<()> {
    // A word that nobody else says: where it comes from.
    let word = client.local_addr()?.to_string();
    client.write_all(word.as_bytes()).await?;
    client.shutdown().await?;
    loop {
        let (server, _) = listener.accept().await?;
        let mut heard = Vec::new();
        server.take(MAX_WORD_BYTES).read_to_end(&mut heard).await?;
        if heard == word.as_bytes() {
            return Ok(());
        }
    }
}

#[cfg(test)]
mod tests {
    use std::num::NonZeroU16;

    use super::*;

    fn rules(not_outbound: &[u16], not_cidrs: &[&str]) -> Rules {
        Rules {
            uid: 15001,
            outbound: NonZeroU16::new(15001),
            inbound: None,
            not_inbound: Vec::new(),
            not_outbound: not_outbound.iter().filter_map(|port| NonZeroU16::new(*port)).collect(),
            not_cidrs: not_cidrs.iter().map(|net| net.parse().unwrap()).collect(),
        }
    }

    #[test]
    fn a_connection_is_tried_with_an_address_that_the_rules_do_not_exclude() {
        let tried = |rules: &Rules| probes(rules).iter().map(ToString::to_string).collect::<Vec<_>>();
        assert_eq!(tried(&rules(&[], &[])), ["192.0.2.1:9", "[2001:db8::1]:9"]);
        let narrow = rules(&[9, 10, 53], &["192.0.2.0/24", "198.51.100.0/24", "2001:db8::/48"]);
        assert_eq!(tried(&narrow), ["203.0.113.1:11", "[2001:db8:ffff::1]:11"]);
        assert!(tried(&rules(&[], &["0.0.0.0/0", "::/0"])).is_empty());
    }

    async fn listening() -> (TcpListener, SocketAddr) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let at = listener.local_addr().unwrap();
        (listener, at)
    }

    #[tokio::test]
    async fn a_connection_that_comes_in_here_was_led_and_any_other_was_not() {
        let (listener, here) = listening().await;
        let soon = Duration::from_millis(200);
        assert_eq!(probe(Some(&listener), here, PATIENCE).await, Seen::Led);
        let (_elsewhere, there) = listening().await;
        let seen = probe(Some(&listener), there, soon).await;
        assert!(matches!(&seen, Seen::Past(why) if why.contains("somebody else")), "{seen:?}");
        assert_eq!(
            probe(None, there, PATIENCE).await,
            Seen::Led,
            "nobody would have answered but the sidecar"
        );
        let (gone, nowhere) = listening().await;
        drop(gone);
        let seen = probe(Some(&listener), nowhere, PATIENCE).await;
        assert!(matches!(&seen, Seen::Past(why) if why.contains("refused")), "{seen:?}");
        assert!(matches!(probe(None, nowhere, PATIENCE).await, Seen::Past(_)));
    }

    #[test]
    fn no_way_out_is_no_way_past_the_sidecar() {
        let of = |error: rustix::io::Errno| is_no_way(&io::Error::from(error));
        use rustix::io::Errno;
        assert!([Errno::NETUNREACH, Errno::AFNOSUPPORT, Errno::ADDRNOTAVAIL].into_iter().all(of));
        assert!(!of(Errno::CONNREFUSED) && !of(Errno::HOSTUNREACH) && !of(Errno::TIMEDOUT));
    }
}
