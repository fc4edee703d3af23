//! Brings plugins that policies name into force, beside traffic. What cannot be loaded says so and leaves what was there before;
//! it is tried again, less and less often.

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use rustc_hash::FxHashMap;
use tidegate_policy::model::ResourceName;
use tidegate_policy::plugin::{Failure, Plugin as Wanted, Source, Traffic};
use tidegate_wasm::{Cache, Code, Hears, LoadError, Plugin, digest};
use tokio::runtime::Handle;
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep};
use tokio_util::sync::CancellationToken;

use super::{Entry, convert, driver, fetch};
use crate::state::ProxyState;
use crate::workers::Workers;

/// How soon a file that has changed is noticed, and a load that is due begun.
const LOOK: Duration = Duration::from_millis(500);
const SOON: Duration = Duration::from_secs(1);
const LATER: Duration = Duration::from_secs(60);
/// Loads under way at one time: a compilation takes a processor.
const AT_ONCE: usize = 2;

/// Begins to load what the configuration in force names, until `stop`.
pub(crate) fn start(proxy: &Arc<ProxyState>, workers: &Workers, control: &Handle, stop: CancellationToken) {
    let state_dir = proxy.config.state_dir.as_ref().map(|directory| directory.join("plugins"));
    let cache = state_dir.as_deref().and_then(|directory| {
        let opened = Cache::at(&directory.join("compiled"));
        opened.inspect_err(|error| tracing::warn!(%error, "compiled plugins are not kept")).ok()
    });
    let loader = Loader {
        proxy: proxy.clone(),
        workers: workers.clone(),
        fetch: Arc::new(fetch::Fetch { state_dir }),
        cache,
        known: FxHashMap::default(),
        under_way: JoinSet::new(),
    };
    control.spawn(stop.run_until_cancelled_owned(loader.run()));
}

struct Loader {
    proxy: Arc<ProxyState>,
    workers: Workers,
    fetch: Arc<fetch::Fetch>,
    cache: Option<Cache>,
    known: FxHashMap<ResourceName, Known>,
    under_way: JoinSet<Done>,
}

struct Known {
    wanted: Arc<Wanted>,
    /// Of a file, as it was when it was read last.
    stamp: Option<Stamp>,
    busy: bool,
    /// When to try again, and how long after that.
    again: Option<(Instant, Duration)>,
}

type Stamp = (SystemTime, u64);
type Done = (Arc<Wanted>, Result<Plugin, String>);

impl Loader {
    async fn run(mut self) {
        let mut changes = self.proxy.store.subscribe();
        loop {
            self.follow();
            self.begin_due();
            let idle = self.known.is_empty();
            tokio::select! {
                Some(done) = self.under_way.join_next() => if let Ok(done) = done { self.take(done) },
                changed = changes.changed() => if changed.is_err() { return },
                () = sleep(LOOK), if !idle => {}
            }
        }
    }

    /// Takes note of what is wanted, and of what is not any more.
    fn follow(&mut self) {
        let snapshot = self.proxy.store.load_full();
        for wanted in snapshot.plugins() {
            let name = &wanted.policy.name;
            let same = |known: &Known| known.wanted == *wanted;
            if !self.known.get(name).is_some_and(same) {
                let known = Known { wanted: wanted.clone(), stamp: None, busy: false, again: due() };
                self.known.insert(name.clone(), known);
            }
        }
        let gone = |name: &ResourceName| !snapshot.plugins().iter().any(|wanted| wanted.policy.name == *name);
        self.known.retain(|name, _| !gone(name));
        let mut loaded = self.proxy.plugins.loaded.write();
        loaded.retain(|name, entry| {
            let stays = !gone(name);
            if !stays {
                entry.current.iter().chain(&entry.before).for_each(|plugin| plugin.retire());
                tracing::info!(plugin = %name, "plugin removed");
            }
            stays
        });
    }

    fn begin_due(&mut self) {
        let now = Instant::now();
        for known in self.known.values_mut() {
            if let Source::File(path) = &known.wanted.source
                && !known.busy
                && let Some(stamp) = stamp(path)
                && known.stamp != Some(stamp)
            {
                (known.stamp, known.again) = (Some(stamp), due());
            }
            let is_due = known.again.is_some_and(|(at, _)| at <= now);
            if known.busy || !is_due || self.under_way.len() >= AT_ONCE {
                continue;
            }
            known.busy = true;
            let (wanted, fetch, cache) = (known.wanted.clone(), self.fetch.clone(), self.cache.clone());
            let (world, threads) = (self.proxy.plugins.world.clone(), self.proxy.plugins.threads);
            let loaded = self.proxy.plugins.codes();
            self.under_way.spawn(async move {
                let fetched = fetch.fetch(&wanted.source).await;
                let built = wanted.clone();
                let build = move |bytes: Vec<u8>| {
                    let code = code_of(&bytes, cache.as_ref(), loaded).map_err(|error| error.to_string())?;
                    meets(&built, code.hears())?;
                    Plugin::new(code, convert::settings(&built), world, threads)
                        .map_err(|error| error.to_string())
                };
                let loaded = match fetched {
                    Err(why) => Err(why),
                    // Seconds, for a large one.
                    Ok(bytes) => match tokio::task::spawn_blocking(move || build(bytes)).await {
                        Ok(loaded) => loaded,
                        Err(error) => Err(error.to_string()),
                    },
                };
                (wanted, loaded)
            });
        }
    }

    fn take(&mut self, (wanted, loaded): Done) {
        let name = &wanted.policy.name;
        let Some(known) = self.known.get_mut(name) else { return };
        if known.wanted != wanted {
            // Another version is wanted by now, and under way.
            return;
        }
        known.busy = false;
        let wait = known.again.take().map_or(SOON, |(_, wait)| wait);
        let proxy = self.proxy.clone();
        let mut entries = proxy.plugins.loaded.write();
        let entry = entries.entry(name.clone()).or_default();
        entry.tried = true;
        match loaded {
            Ok(plugin) => {
                tracing::info!(plugin = %name, abi = %plugin.code().abi(), "plugin loaded");
                self.put_in_force(entry, &wanted, plugin);
            }
            Err(why) => {
                known.again = Some((Instant::now() + wait, (wait * 2).min(LATER)));
                let keeps = entry.current.is_some();
                tracing::error!(plugin = %name, why, keeps, "plugin cannot be loaded; the version before stays, if there is one");
                entry.fault = Some(why);
            }
        }
        drop(entries);
        self.proxy.plugins.ended.send_replace(());
    }

    /// On every thread at once: what a plugin does by the clock begins with it, not with the first request.
    fn put_in_force(&self, entry: &mut Entry, wanted: &Arc<Wanted>, plugin: Plugin) {
        let plugin = Arc::new(plugin);
        let old = entry.current.replace(plugin.clone());
        entry.fault = None;
        let retired = if wanted.failure == Failure::LastGood {
            // One that was in quarantine itself is nothing to go back to.
            let good = old.filter(|old| old.standing().quarantined_until.is_none());
            if good.is_some() { std::mem::replace(&mut entry.before, good) } else { None }
        } else {
            entry.before.take().into_iter().for_each(|before| before.retire());
            old
        };
        retired.iter().for_each(|old| old.retire());
        for runtime in self.workers.all() {
            let (plugin, wanted, proxy) = (plugin.clone(), wanted.clone(), self.proxy.clone());
            runtime.spawn(async move {
                if let Ok(seat) = plugin.seat()
                    && seat.is_new
                {
                    driver::start(seat.vm, &proxy, wanted);
                }
            });
        }
    }
}

/// A change of configuration, or a second policy with the same module, compiles nothing, and keeps one copy in memory.
fn code_of(bytes: &[u8], cache: Option<&Cache>, loaded: Vec<Code>) -> Result<Code, LoadError> {
    let digest = digest(bytes);
    match loaded.into_iter().find(|code| *code.digest() == digest) {
        Some(code) => Ok(code),
        None => Code::load(bytes, cache),
    }
}

/// Whether the module can be of use where its policy is attached. One that has callbacks for neither may do its work by the
/// clock.
///
/// # Errors
/// It is never told of anything that it could judge, and nobody would notice.
fn meets(wanted: &Wanted, hears: Hears) -> Result<(), String> {
    match (wanted.traffic, hears) {
        (Traffic::Connections, Hears { requests: true, connections: false }) => Err(String::from(
            "the module has callbacks for HTTP only (`proxy_on_request_headers` and the like), and its policy is attached to \
             connections that are carried as a whole; attach it to an HTTPRoute, or take a module with \
             `proxy_on_downstream_data` and the like",
        )),
        (Traffic::Requests, Hears { requests: false, connections: true }) => Err(String::from(
            "the module has callbacks for connections only (`proxy_on_downstream_data` and the like), and its policy is \
             attached to HTTP; attach it to a TCPRoute or TLSRoute, or take a module with `proxy_on_request_headers` and the like",
        )),
        _ => Ok(()),
    }
}

#[expect(clippy::unnecessary_wraps, reason = "what the field holds")]
fn due() -> Option<(Instant, Duration)> {
    Some((Instant::now(), SOON))
}

fn stamp(path: &str) -> Option<Stamp> {
    let metadata = std::fs::metadata(path).ok()?;
    Some((metadata.modified().ok()?, metadata.len()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn module(name: &str) -> Vec<u8> {
        let text = format!(
            r#"(module (memory (export "memory") 1) (func (export "proxy_abi_version_0_2_1")) (func (export "{name}"))
            (func (export "malloc") (param i32) (result i32) i32.const 0))"#
        );
        wat::parse_str(text).unwrap()
    }

    #[test]
    fn a_module_that_is_loaded_already_is_not_compiled_again() {
        let (bytes, other) = (module("a"), module("b"));
        let first = code_of(&bytes, None, Vec::new()).unwrap();
        let again = code_of(&bytes, None, vec![code_of(&other, None, Vec::new()).unwrap(), first.clone()]);
        assert!(again.unwrap().is_same(&first));
        let changed = code_of(&other, None, vec![first.clone()]).unwrap();
        assert!(!changed.is_same(&first) && *changed.digest() == digest(&other));
    }
}
