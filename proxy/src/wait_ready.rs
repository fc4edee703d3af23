//! `tidegate-proxy wait-ready`: ends when the proxy beside it is ready. For hooks of container runtimes, in images that have no other
//! program.

use std::io::{self, Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::thread::sleep;
use std::time::{Duration, Instant};

use crate::ProxyConfig;
use crate::config::duration;

/// Flags of `wait-ready`.
#[derive(Clone, Debug, clap::Args)]
pub struct WaitArgs {
    /// The proxy's admin port
    #[arg(long, value_name = "ADDR", default_value_t = ProxyConfig::ADMIN)]
    pub admin: SocketAddr,
    /// After which it gives up
    #[arg(long, value_name = "DURATION", default_value = "60s", value_parser = duration::parse)]
    pub timeout: Duration,
}

/// Until the process is there at all.
const PAUSE: Duration = Duration::from_millis(10);

/// Waits.
///
/// # Errors
/// What the proxy still waited for as the time was over.
pub fn wait_ready(args: &WaitArgs) -> anyhow::Result<()> {
    let end = Instant::now() + args.timeout;
    loop {
        let left = end.saturating_duration_since(Instant::now());
        let why = match ask(args.admin, left) {
            Ok(answer) if answer.starts_with("HTTP/1.1 200 ") => return Ok(()),
            Ok(answer) => answer.split_once("\r\n\r\n").map_or("", |(_, body)| body).trim().to_owned(),
            Err(error) => error.to_string(),
        };
        if left.is_zero() {
            anyhow::bail!("{} is not ready after {:?}: {why}", args.admin, args.timeout);
        }
        sleep(PAUSE.min(left));
    }
}

/// The proxy keeps its answer back for a second while it is not ready.
fn ask(admin: SocketAddr, left: Duration) -> io::Result<String> {
    let patience = left.clamp(Duration::from_secs(1), Duration::from_secs(5));
    let mut stream = TcpStream::connect_timeout(&admin, patience)?;
    stream.set_read_timeout(Some(patience))?;
    let wait = u8::from(left > Duration::from_secs(1));
    stream.write_all(format!("GET /ready?wait={wait} HTTP/1.1\r\nhost: localhost\r\n\r\n").as_bytes())?;
    let mut answer = String::new();
    stream.take(4096).read_to_string(&mut answer)?;
    Ok(answer)
}

#[cfg(test)]
mod tests {
    use std::net::TcpListener;

    use super::*;

    /// Answers so, one after the other, and then no more.
    fn admin(answers: &'static [&str]) -> (SocketAddr, std::thread::JoinHandle<()>) {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let serving = std::thread::spawn(move || {
            for answer in answers {
                let (mut stream, _) = listener.accept().unwrap();
                let mut asked = [0; 256];
                let got = stream.read(&mut asked).unwrap();
                assert!(asked[..got].starts_with(b"GET /ready?wait="));
                stream.write_all(answer.as_bytes()).unwrap();
            }
        });
        (address, serving)
    }

    fn args(admin: SocketAddr, timeout: Duration) -> WaitArgs {
        WaitArgs { admin, timeout }
    }

    const NOT_YET: &str =
        "HTTP/1.1 503 Service Unavailable\r\ncontent-length: 22\r\n\r\nwaits for a certificate\n";
    const READY: &str = "HTTP/1.1 200 OK\r\ncontent-length: 6\r\n\r\nready\n";

    #[test]
    fn it_ends_when_the_proxy_is_ready() {
        let (address, serving) = admin(&[NOT_YET, READY]);
        wait_ready(&args(address, Duration::from_secs(60))).unwrap();
        serving.join().unwrap();
    }

    #[test]
    fn it_gives_up_and_says_what_was_missing() {
        let (address, serving) = admin(&[NOT_YET]);
        let told = wait_ready(&args(address, Duration::ZERO)).unwrap_err().to_string();
        assert!(told.contains("waits for a certificate"), "{told}");
        serving.join().unwrap();
        let told = wait_ready(&args(address, Duration::ZERO)).unwrap_err().to_string();
        assert!(told.contains("refused"), "{told}");
    }
}
