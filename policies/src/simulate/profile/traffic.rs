use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::time::Duration;

use http::{HeaderName, HeaderValue, Method};

use super::draw::{self, Zipf};
use super::spec::{Arrivals, ClientSpec, ProfileSpec};
use crate::simulate::request::{Logged, Request};
use crate::time::Timestamp;

/// The requests of a profile.
#[derive(Debug)]
pub struct Traffic {
    clients: Vec<Client>,
    began: Timestamp,
    duration: Duration,
}

#[derive(Debug)]
struct Client {
    spec: ClientSpec,
    method: Method,
    grpc: bool,
    secure: bool,
    host: HeaderValue,
    target: String,
    headers: Vec<(HeaderName, String)>,
    zipf: Option<Zipf>,
    rng: fastrand::Rng,
    /// When the next one comes, in seconds since the beginning.
    next: f64,
    /// When the burst ends, or infinity.
    burst: f64,
    most: f64,
}

/// The beginning of a profile on the wall: that of 2026.
const BEGAN: Duration = Duration::from_secs(1_767_225_600);
const CLIENTS: u32 = u32::from_be_bytes([10, 0, 0, 0]);

impl Traffic {
    pub(super) fn new(spec: &ProfileSpec, seed: u64) -> Result<Self, String> {
        let began = Timestamp::from(BEGAN);
        let mut seeds = fastrand::Rng::with_seed(seed);
        let clients: Result<Vec<_>, _> = spec
            .clients
            .iter()
            .map(|client| {
                Client::new(client, seeds.u64(..)).map_err(|why| format!("{}: {why}", client.request))
            })
            .collect();
        Ok(Self { clients: clients?, began, duration: spec.duration.get() })
    }

    pub fn began(&self) -> Timestamp {
        self.began
    }

    /// The next request, if there is one.
    pub fn next(&mut self, request: &mut Request) -> bool {
        let end = self.duration.as_secs_f64();
        let soonest = self.clients.iter_mut().min_by(|a, b| a.next.total_cmp(&b.next));
        let Some(client) = soonest.filter(|client| client.next < end) else { return false };
        let at = self.began + draw::duration(client.next).min(self.duration);
        // Longer than a day is no time to be clamped.
        let at = at.max(self.began + Duration::try_from_secs_f64(client.next).unwrap_or_default());
        client.write(at, request);
        client.go_on();
        true
    }
}

impl Client {
    fn new(spec: &ClientSpec, seed: u64) -> Result<Self, String> {
        let (method, url) = spec.request.split_once(' ').ok_or("expected a method and an URL")?;
        let grpc = method == "GRPC";
        let method = if grpc { Method::POST } else { method.parse().map_err(|_| "no such method")? };
        let (scheme, rest) = url.split_once("://").ok_or("expected an URL with scheme and host")?;
        let (host, target) = rest.split_at(rest.find(['/', '?']).unwrap_or(rest.len()));
        let target = if target.starts_with('/') { target.to_owned() } else { format!("/{target}") };
        let headers: Result<Vec<_>, String> = spec
            .headers
            .iter()
            .map(|(name, value)| {
                let name =
                    name.parse::<HeaderName>().map_err(|_| format!("`{name}` is not a header name"))?;
                Ok((name, value.clone()))
            })
            .collect();
        let most = spec.rates.iter().map(|rate| rate.rate).fold(0.0, f64::max);
        let most = if spec.rates.is_empty() { spec.rate } else { most.max(spec.rate) };
        let mut client = Self {
            method,
            grpc,
            secure: scheme == "https",
            host: HeaderValue::from_str(host).map_err(|_| "the host is none")?,
            target,
            headers: headers?,
            zipf: spec.key.as_ref().map(|key| Zipf::new(key.count, key.zipf)),
            rng: fastrand::Rng::with_seed(seed),
            next: 0.0,
            burst: f64::INFINITY,
            most,
            spec: spec.clone(),
        };
        let key = client.key(1);
        if !Request::default().set_target(&client.target.replace("{key}", &key)) {
            return Err(String::from("its path is none that a proxy would take"));
        }
        if let Some(bursts) = spec.bursts {
            client.burst = draw::exponential(bursts.on.get().as_secs_f64(), &mut client.rng);
        }
        client.go_on();
        Ok(client)
    }

    fn key(&self, rank: u32) -> String {
        self.spec.key.as_ref().map_or_else(String::new, |key| format!("{}{rank}", key.prefix))
    }

    fn write(&mut self, at: Timestamp, request: &mut Request) {
        request.clear();
        request.at = at;
        request.logged = Logged::default();
        request.head.method = self.method.clone();
        request.secure = self.secure;
        request.head.headers.insert(http::header::HOST, self.host.clone());
        if self.grpc {
            request.set_grpc();
        }
        let rank = self.zipf.map(|zipf| zipf.draw(&mut self.rng));
        let key = rank.map(|rank| self.key(rank)).unwrap_or_default();
        match self.target.contains("{key}") {
            true => drop(request.set_target(&self.target.replace("{key}", &key))),
            false => drop(request.set_target(&self.target)),
        }
        for (name, value) in &self.headers {
            if let Ok(value) = HeaderValue::try_from(value.replace("{key}", &key)) {
                request.head.headers.append(name.clone(), value);
            }
        }
        let address = rank.filter(|_| self.spec.key.as_ref().is_some_and(|key| key.client_address));
        let address = Ipv4Addr::from_bits(CLIENTS | address.unwrap_or(1));
        request.peer.address = SocketAddr::new(IpAddr::V4(address), 40_000);
    }

    /// To the time of the next request.
    fn go_on(&mut self) {
        if self.most <= 0.0 {
            self.next = f64::INFINITY;
            return;
        }
        loop {
            self.next += match self.spec.arrivals {
                Arrivals::Poisson => draw::exponential(1.0 / self.most, &mut self.rng),
                Arrivals::Even => 1.0 / self.most,
            };
            self.skip_pauses();
            // What comes as fast as ever, thinned to what comes now (Lewis and Shedler, 1979).
            let rate = self.rate();
            if rate >= self.most || self.rng.f64() * self.most < rate || self.next.is_infinite() {
                return;
            }
            // Nothing comes after the last of them.
            if rate == 0.0
                && self.spec.rates.last().is_none_or(|last| self.next > last.at.get().as_secs_f64())
            {
                self.next = f64::INFINITY;
                return;
            }
        }
    }

    fn skip_pauses(&mut self) {
        let Some(bursts) = self.spec.bursts else { return };
        while self.next >= self.burst {
            let (over, on, off) = (self.next - self.burst, bursts.on.get(), bursts.off.get());
            let resumes = self.burst + draw::exponential(off.as_secs_f64(), &mut self.rng);
            self.burst = resumes + draw::exponential(on.as_secs_f64(), &mut self.rng).max(1e-6);
            self.next = resumes + over;
        }
    }

    /// Per second, now.
    fn rate(&self) -> f64 {
        let rates = &self.spec.rates;
        let after = rates.partition_point(|rate| rate.at.get().as_secs_f64() <= self.next);
        let before = after.checked_sub(1).and_then(|at| rates.get(at));
        match (before, rates.get(after)) {
            (None, _) => self.spec.rate,
            (Some(last), None) => last.rate,
            (Some(from), Some(to)) => {
                let (start, end) = (from.at.get().as_secs_f64(), to.at.get().as_secs_f64());
                from.rate + (to.rate - from.rate) * (self.next - start) / (end - start)
            }
        }
    }
}
