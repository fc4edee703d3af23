//! One run of the demo, from start to summary.

use std::collections::BTreeMap;
use std::io;
use std::path::Path;
use std::time::Duration;

use anyhow::Result;
use tokio::time::{Instant, MissedTickBehavior, interval};
use tokio_util::sync::CancellationToken;

use super::DemoArgs;
use super::eyes::Eyes;
use super::judge::{BreakerSeen, Seen, User, Verdict, judge, times};
use super::layout::{self, loopback};
use super::load::{Load, Totals};
use super::mesh::Mesh;
use super::metrics::Turns;
use super::policies::{LIMITS, PolicyDir};
use super::service::BAD_PHASE;
use super::show::Show;
use super::summary::{self, Facts};
use super::table::{Event, Row, Tone, View};
use crate::exit::Done;
use crate::{logging, say, shutdown};

/// How often the sidecars and the control plane are asked.
const LOOK_EVERY: Duration = Duration::from_millis(250);
/// How often the table changes.
const SHOW_EVERY: Duration = Duration::from_secs(1);
/// A breaker that was open when the bad phase ended needs this long, beyond its pause, to try and to close.
const RECOVERY: Duration = Duration::from_secs(2);

/// Everything that counts from here on: the start, or the last edit of the policies.
struct Mark {
    at: Duration,
    totals: Totals,
    picks: BTreeMap<String, u64>,
    turns: Turns,
    edits: u64,
}

struct Demo {
    mesh: Mesh,
    load: Load,
    eyes: Eyes,
    show: Show,
    mark: Mark,
    /// When the last frame was drawn: on a busy machine, a second is longer.
    drawn: Duration,
    hint: String,
}

pub(crate) async fn run(args: DemoArgs) -> Result<Done> {
    let stop = shutdown::token()?;
    let dir = PolicyDir::locate(args.policies.as_deref(), Path::new("."))?;
    layout::check_free(&layout::ports())?;
    let logs = tempfile::Builder::new().prefix("tidegate-demo-logs-").tempdir()?;
    let show = Show::new(args.no_tty);
    let copies = if dir.is_copy() { " (copies; --keep leaves them there)" } else { "" };
    say::line(&format!("Policies: {}{copies}. Logs: {}.", dir.path.display(), logs.path().display()));
    let done = supervise(&args, &dir, logs.path(), show, stop).await;
    if args.keep || !matches!(done, Ok(Done::Well)) {
        let kept = logs.keep();
        say::line(&format!("The logs of every process are in {}.", kept.display()));
    }
    if args.keep {
        dir.keep();
    }
    done
}

async fn supervise(
    args: &DemoArgs,
    dir: &PolicyDir,
    logs: &Path,
    show: Show,
    stop: CancellationToken,
) -> Result<Done> {
    let eyes = Eyes::new(&dir.path);
    let mesh = tokio::select! {
        mesh = Mesh::start(&dir.path, logs, args.keep) => mesh?,
        () = stop.cancelled() => return Ok(Done::Well),
    };
    let load = Load::start(loopback(layout::STOREFRONT.inbound), f64::from(args.rps));
    let mark = Mark::start(&load);
    let hint = format!("Edit {} and watch.", dir.path.join(LIMITS).display());
    let mut demo = Demo { mesh, load, eyes, show, mark, drawn: Duration::ZERO, hint };
    let ended = demo.watch(args.duration.map(|d| d.get()), &stop).await;
    demo.load.drain().await;
    let time = demo.load.started.elapsed();
    demo.eyes.look(time).await;
    let summary = demo.sum_up(time);
    let Demo { mesh, show, .. } = demo;
    drop(show);
    mesh.stop().await;
    if let Err(error) = ended {
        say::news(&[format!("tidegate: the demo ended early: {error:#}")]);
        return Ok(Done::ChecksFailed);
    }
    let (text, passed) = summary;
    say::text(&text);
    // Without --for nothing was promised: whoever ends it by hand has seen what they wanted.
    Ok(if passed || args.duration.is_none() { Done::Well } else { Done::ChecksFailed })
}

impl Mark {
    fn start(load: &Load) -> Self {
        Self {
            at: Duration::ZERO,
            totals: load.measures.totals(),
            picks: BTreeMap::new(),
            turns: Turns::default(),
            edits: 0,
        }
    }
}

impl Demo {
    /// Looks and shows until the time is over, Ctrl-C, or the end of a process.
    async fn watch(&mut self, duration: Option<Duration>, stop: &CancellationToken) -> Result<()> {
        let mut looks = interval(LOOK_EVERY);
        looks.set_missed_tick_behavior(MissedTickBehavior::Skip);
        let end = duration.map(|d| self.load.started + d);
        let mut next_show = self.load.started + SHOW_EVERY;
        loop {
            tokio::select! {
                _ = looks.tick() => {}
                () = stop.cancelled() => return Ok(()),
            }
            let at = self.load.started.elapsed();
            if let Some(ended) = self.mesh.check()? {
                let text = format!("{ended}; traffic goes on as configured, and it is started again");
                self.eyes.watch.note(Event::new(at, Tone::Bad, text));
            }
            if self.eyes.look(at).await {
                self.remark(at);
            }
            if Instant::now() >= next_show {
                next_show += SHOW_EVERY;
                self.draw(at)?;
            }
            if end.is_some_and(|end| Instant::now() >= end) {
                return Ok(());
            }
        }
    }

    /// The policies in force have changed: what came before proves nothing about them.
    fn remark(&mut self, at: Duration) {
        self.mark = Mark {
            at,
            totals: self.load.measures.totals(),
            picks: self.eyes.watch.picks(),
            turns: self.eyes.watch.turns(layout::CHECKOUT_V2.name),
            edits: self.mark.edits + 1,
        };
    }

    fn draw(&mut self, at: Duration) -> io::Result<()> {
        let written = self.eyes.written();
        let mut rows = vec![self.storefront(at.saturating_sub(self.drawn))];
        let callees = [layout::CHECKOUT_V1.name, layout::CHECKOUT_V2.name];
        rows.extend(self.eyes.watch.rows(at, &callees, &written.weights));
        self.drawn = at;
        let view = View { elapsed: at, rows, events: self.eyes.watch.events(), hint: self.hint.clone() };
        self.show.view(&view)
    }

    /// The storefront as its clients see it.
    fn storefront(&self, time: Duration) -> Row {
        let seconds = time.as_secs_f64().max(0.001);
        let second = self.load.measures.take_second();
        let admitted = second.answered - second.limited;
        Row {
            service: layout::STOREFRONT.name.to_owned(),
            rate: (second.answered + second.lost) as f64 / seconds,
            success: (admitted > 0).then(|| second.ok as f64 / admitted as f64),
            p50: second.quantile(0.5),
            p99: second.quantile(0.99),
            limited: second.limited as f64 / seconds,
            breaker: None,
            share: None,
        }
    }

    fn sum_up(&self, time: Duration) -> (String, bool) {
        let written = self.eyes.written();
        let totals = self.load.measures.totals();
        let pause = written.breaker.as_ref().map_or(Duration::ZERO, |b| b.open);
        let lines = judge(&written, &self.seen(&totals, time, pause));
        let note = (self.mark.edits > 0).then(|| {
            format!(
                "The policies were changed {}; judged from second {} on.",
                times(self.mark.edits),
                self.mark.at.as_secs()
            )
        });
        let facts = Facts { note, given_up: totals.given_up };
        let text = summary::render(&lines, &facts, logging::colour(&io::stdout()));
        (text, lines.iter().all(|line| line.verdict == Verdict::Pass))
    }

    fn seen(&self, totals: &Totals, time: Duration, pause: Duration) -> Seen {
        let diff = totals.since(&self.mark.totals);
        let users = self.load.users.iter().zip(&diff.users).map(|(name, user)| User {
            name: name.clone(),
            sent: user.sent,
            admitted: user.admitted,
            limited: user.limited,
        });
        let mut picks = self.eyes.watch.picks();
        for (service, before) in &self.mark.picks {
            picks.entry(service.clone()).and_modify(|n| *n = n.saturating_sub(*before));
        }
        let turns = self.eyes.watch.turns(layout::CHECKOUT_V2.name);
        Seen {
            time: time.saturating_sub(self.mark.at),
            users: users.collect(),
            lost: diff.lost,
            picks,
            breaker: BreakerSeen {
                opened: turns.opened - self.mark.turns.opened,
                closed: turns.closed - self.mark.turns.closed,
                refused: diff.refused_calls,
                refused_slowly: diff.refused_slowly,
                failed: diff.failed_calls,
                whole_phase: BAD_PHASE.whole_between(self.mark.at, time.saturating_sub(pause + RECOVERY)),
            },
        }
    }
}

impl Event {
    pub(crate) fn new(at: Duration, tone: Tone, text: impl Into<String>) -> Self {
        Self { at, tone, text: text.into() }
    }
}
