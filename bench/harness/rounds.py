"""The rounds of one scenario: everybody's turn, in an order that moves on, and what it cost.

Results are lists, one value per round, under scenario / variant / peer / figure. A round in which anybody lost
connections is dropped for all, so that the lists stay pairs.
"""

import contextlib
import os
import pathlib
import subprocess
import sys
import time

import common
from harness import checks, contest as contests_of, loads

#: Requests per second of the loads with a fixed rate.
STEADY = 8_000
GENTLE = 2_000
IDLE = 1_000
#: Before the first round, so that pools are open and caches are warm.
WARM_UP = 1.0
#: Until memory is said to rest.
SETTLE = 1.0
#: Until connections count as idle.
QUIET = 10
#: Of a smoke test.
BRIEF = 0.2
#: How often a round may be dropped before the run ends without figures.
DROPPED = 3


def saturate(contest, seconds):
    load = loads.h2load if contest.features.http2 else loads.wrk
    found, micros = costed(contest, lambda: load(contest, seconds))
    return {"rps": found["rps"], "cpu_max": micros}


def steady(contest, seconds):
    if contest.peer == "direct":
        return {}
    before = checks.consumed(contest.collector) if contest.features.traced else 0
    found, micros = costed(contest, lambda: loads.pace(contest, STEADY, seconds))
    if not contest.features.traced:
        return {"cpu_steady": micros}
    # Whoever drops spans has less to do: that shall be seen beside what tracing costs.
    exported = (checks.consumed(contest.collector) - before) / found["requests"]
    return {"cpu_steady": micros, "exported": exported}


def latency(contest, seconds):
    with common.awake():
        found = loads.pace(contest, GENTLE, seconds)
    return {name: found[name] for name in ("p50", "p99", "p999")}


def churn(contest, seconds):
    found, micros = costed(contest, lambda: loads.churn(contest, seconds))
    return {"conns": found["rps"], "cpu_conn": micros}


LOADS = {"saturate": saturate, "steady": steady, "latency": latency, "churn": churn}


def costed(contest, load):
    """What a load told, and the CPU of the peer in microseconds per request."""
    before = common.cpu_nanoseconds(contest.pids)
    found = load()
    spent = common.cpu_nanoseconds(contest.pids) - before
    return found, spent / max(1, found["requests"]) / 1e3


def run(name, scenario, peers, args):
    """{variant: {peer: {figure: [one value per round]}}}, empty when smoking."""
    say(f"{name}: {scenario.title}")
    with contextlib.ExitStack() as stack:
        if "life" in scenario.loads:
            stage = contests_of.Stage(stack, scenario)
            entries = [(variant, peer) for variant in scenario.variants for peer in peers]
            for variant, peer in entries:
                read_anew(stage, variant, peer)
            return in_turns(entries, lambda entry: life(stage, *entry, args.smoke), args)
        _, contests = contests_of.set_up(stack, scenario, peers)
        for contest in contests:
            warm(contest, args.smoke)
        if args.smoke:
            return {}
        return in_turns(contests, lambda contest: turn(contest, args.seconds), args)


def warm(contest, smoke):
    if "churn" in contest.scenario.loads:
        loads.churn(contest, BRIEF)
    elif smoke:
        say(f"  {contest}: {loads.pace(contest, 200, BRIEF)['requests']} answers")
    else:
        saturate(contest, WARM_UP)


def turn(contest, seconds):
    found = {}
    for load in contest.scenario.loads:
        found.update(LOADS[load](contest, seconds))
        contest.empty_log()
    return contest.variant, contest.peer, found


def in_turns(entries, take, args):
    results = {}
    done = dropped = 0
    while done < (1 if args.smoke else args.rounds):
        order = entries[done % len(entries):] + entries[:done % len(entries)]
        try:
            begun = time.monotonic()
            found = [take(entry) for entry in order]
        except loads.Unclean as error:
            dropped += 1
            say(f"  ROUND DROPPED: {error}")
            if dropped > DROPPED:
                sys.exit("bench: too many rounds were not clean; is the machine busy, or a peer out of its depth?")
            continue
        done += 1
        say(f"  round {done}: {time.monotonic() - begun:.0f} s")
        for variant, peer, figures in found:
            place = results.setdefault(variant, {}).setdefault(peer, {})
            for figure, value in figures.items():
                place.setdefault(figure, []).append(value)
    return {} if args.smoke else results


def read_anew(stage, variant, peer):
    """What is resident of a program depends on how much of its file the system has at hand, for that is mapped around every
    page that is asked for: all of it after the file was written. Here each has what its own start reads from the disk."""
    forget(started_once(stage, variant, peer))
    started_once(stage, variant, peer)


def started_once(stage, variant, peer):
    """Its program's file, when it has answered and ended."""
    with contextlib.ExitStack() as stack:
        contest = stage.contest(variant, peer, stage.scenario.variants[variant], stack)
        answered(contest)
        return pathlib.Path(f"/proc/{contest.process.pid}/exe").resolve()


def forget(path):
    """Lets the system drop what it keeps of a file that nobody has open."""
    with path.open("rb") as file:
        os.fsync(file.fileno())
        os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)


def life(stage, variant, peer, smoke):
    """A fresh process: from its start to the first answer through it, its memory at rest, and with idle connections."""
    with contextlib.ExitStack() as stack:
        begun = time.monotonic()
        contest = stage.contest(variant, peer, stage.scenario.variants[variant], stack)
        answered(contest)
        started = time.monotonic() - begun
        checks.check(contest)
        if smoke:
            return variant, peer, {}
        time.sleep(SETTLE)
        rest = common.rss_mib(contest.process.pid)
        with idle(contest):
            time.sleep(SETTLE)
            asked = common.rss_mib(contest.process.pid) - rest
            time.sleep(QUIET)
            held = common.rss_mib(contest.process.pid) - rest
    return variant, peer, {"start_ms": started * 1e3, "rss": rest, "rss_asked": asked, "rss_idle": held}


def answered(contest):
    """Asks again every half millisecond; the limit is only for a peer that is broken."""
    end = time.monotonic() + checks.PATIENCE
    while time.monotonic() < end:
        with contextlib.suppress(OSError):
            if checks.ask(contest)[0] == 200:
                return
        time.sleep(0.0005)
    sys.exit(f"bench: {contest} does not start")


@contextlib.contextmanager
def idle(contest):
    command = [common.binary("tidegate-bench"), "idle", f"127.0.0.1:{contest.port}", "--connections", str(IDLE)]
    client = subprocess.Popen(common.pinned(1, command), stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    try:
        if client.stdout.readline() != "holding\n":
            raise loads.Unclean(f"{contest} does not hold {IDLE} connections")
        yield
        client.stdin.close()
        if client.wait(10):
            raise loads.Unclean(f"{contest} closed idle connections")
    finally:
        client.kill()
        client.wait()


def say(text):
    print(text, file=sys.stderr, flush=True)
