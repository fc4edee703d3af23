"""The tables of bench/README.md: the goals, then one table for each group of figures."""

import json
import subprocess

import common
from harness import goals
from harness.figures import Figures, middle, ratio
from harness.scenarios import SCENARIOS
from peers import PEERS

PLOT = common.ROOT / "bench" / "compare.svg"

MICROS, MILLIS, COUNT, MIB = "{:.1f}", "{:.1f}", "{:.0f}", "{:.1f}"


def text(found):
    return f"{goals.table(Figures(found))}\n\n{machine(found)}\n\n{groups(found)}"


def publish(found):
    common.write_section("goals", f"{goals.table(Figures(found))}\n\n{machine(found)}")
    common.write_section("figures", groups(found))
    common.python_package("matplotlib", "lib/python3*/site-packages/matplotlib")
    command = [str(common.PEERS / "bin" / "python"), str(common.ROOT / "bench" / "harness" / "plot.py"), str(PLOT)]
    subprocess.run(command, input=json.dumps(found), text=True, check=True)


def machine(found):
    versions = [f"{PEERS[name].TITLE} {version}" for name, version in found["versions"].items()]
    sizes = {(run["rounds"], run["seconds"]) for run in found["scenarios"].values()}
    taken = ", ".join(f"{count} rounds of {seconds:g} s" for count, seconds in sorted(sizes))
    return f"{found['machine']}; {', '.join(versions)}; {taken} per load. ✓✓ as good as we aim at, ✓ as it must be, ✗ missed."


def groups(found):
    figures = Figures(found)
    parts = [
        ("CPU per request, saturated, µs", everywhere(figures, "cpu_max", MICROS)),
        ("CPU per request at 8 000 requests/s, µs", everywhere(figures, "cpu_steady", MICROS)),
        ("Requests/s of one worker, saturated (more is better)", everywhere(figures, "rps", COUNT)),
        ("Latency added at 2 000 requests/s, µs", added(figures)),
        ("A new connection for each request: CPU per request, µs", everywhere(figures, "cpu_conn", MICROS)),
        ("CPU that tracing adds per request, µs", tracing(figures)),
        ("CPU that a plugin adds per request, µs", plugin(figures)),
        ("Bodies of 10 MiB: CPU per request, ms", bodies(figures)),
        ("Start, rest, idle connections", life(figures)),
    ]
    return "\n\n".join(f"### {title}\n\n{lines}" for title, lines in parts if lines)


def by_peer(lines, form):
    """Rows of (label, {peer: values}): a column for each peer that has any, then ours to Envoy's and to the floor's."""
    peers = [peer for peer in ("direct", *PEERS) if any(values.get(peer) for _, values in lines)]
    rows = []
    for label, values in lines:
        cells = [form.format(middle(values[peer])) if values.get(peer) else "–" for peer in peers]
        ratios = [ratio(values.get("tidegate"), values.get(peer)) for peer in ("envoy", "floor")]
        rows.append([label, *cells, *(f"{r:.2f}" if r else "–" for r in ratios)])
    titles = [PEERS[peer].TITLE if peer in PEERS else peer for peer in peers]
    return common.table(["", *titles, "÷ Envoy", "÷ floor"], rows) if rows else ""


def everywhere(figures, figure, form):
    """One row for each scenario and variant that has the figure; large bodies have a table of their own."""
    lines = []
    for name, scenario in SCENARIOS.items():
        for variant in scenario.variants:
            values = {peer: figures.rounds(name, variant, peer, figure) for peer in ("direct", *PEERS)}
            # The backend is not what is measured: nobody reads its CPU.
            if figure.startswith("cpu"):
                values.pop("direct")
            if name != "bodies" and any(values.values()):
                lines.append((f"{scenario.title}, {variant}" if variant else scenario.title, values))
    return by_peer(lines, form)


def added(figures):
    lines = []
    for name, scenario in SCENARIOS.items():
        for figure, label in (("p50", "p50"), ("p99", "p99"), ("p999", "p99.9")):
            values = {peer: figures.added(name, "", peer, figure) for peer in PEERS}
            values["direct"] = figures.rounds(name, "", "direct", figure)
            if any(values[peer] for peer in PEERS):
                lines.append((f"{scenario.title}: {label}", values))
    return by_peer(lines, MICROS).replace("| direct |", "| (direct, whole) |", 1)


def tracing(figures):
    lines = []
    for variant in ("1 %", "100 %"):
        for figure, label in (("cpu_steady", "at 8 000 requests/s"), ("cpu_max", "saturated")):
            values = {peer: figures.above("tracing", variant, "off", peer, figure) for peer in ("tidegate", "envoy")}
            if any(values.values()):
                lines.append((f"{variant}, {label}", values))
    for variant in ("1 %", "100 %"):
        values = {peer: figures.rounds("tracing", variant, peer, "exported") for peer in ("tidegate", "envoy")}
        if any(values.values()):
            lines.append((f"{variant}: bytes exported per request at 8 000/s", values))
    return by_peer(lines, MICROS)


def plugin(figures):
    lines = []
    for figure, label in (("cpu_steady", "at 8 000 requests/s"), ("cpu_max", "saturated")):
        values = {peer: figures.above("plugin", "with", "without", peer, figure) for peer in ("tidegate", "envoy")}
        if any(values.values()):
            lines.append((f"a header each way, {label}", values))
    return by_peer(lines, MICROS)


def bodies(figures):
    lines = []
    for variant in ("down", "up"):
        values = {peer: figures.rounds("bodies", variant, peer, "cpu_max") for peer in PEERS}
        values = {peer: [micros / 1e3 for micros in found] for peer, found in values.items() if found}
        if values:
            lines.append((variant, values))
    return by_peer(lines, MILLIS)


def life(figures):
    lines = []
    for figure, label in (
        ("start_ms", "start to the first answer, ms"),
        ("rss", "resident memory at rest, MiB"),
        ("rss_asked", "more with 1 000 connections that have just been answered, MiB"),
        ("rss_idle", "the same after ten quiet seconds, MiB"),
    ):
        values = {peer: figures.rounds("life", "", peer, figure) for peer in PEERS}
        if any(values.values()):
            lines.append((label, values))
    return by_peer(lines, MIB)
