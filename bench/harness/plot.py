"""Draws bench/compare.svg: CPU per request, with Envoy as 1. Run by report.py with the Python that has matplotlib.

Colours and grey text are chosen to be read on a white page and on a dark one; the background is left transparent.
"""

import json
import pathlib
import sys

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent.parent))

import matplotlib  # noqa: E402

matplotlib.use("svg")
import matplotlib.pyplot as pyplot  # noqa: E402

from harness.figures import Figures, middle, ratio  # noqa: E402

OURS, THEIRS, FLOOR, TEXT, FAINT = "#1f9e94", "#d06a3a", "#e5b454", "#7f8792", "#7f879255"
#: (label, scenario, figure), from the top.
ROWS = [
    ("HTTP/1.1, saturated", "plain", "cpu_max"),
    ("HTTP/1.1, 8 000 requests/s", "plain", "cpu_steady"),
    ("limit, breaker, canary, access log", "policies", "cpu_max"),
    ("access log", "log", "cpu_max"),
    ("canary", "canary", "cpu_max"),
    ("refused by a limit", "refused", "cpu_max"),
    ("HTTP/2", "h2c", "cpu_max"),
    ("gRPC", "grpc", "cpu_max"),
    ("TLS 1.3, keep-alive", "tls", "cpu_max"),
    ("new connection each", "churn", "cpu_conn"),
    ("new TLS connection each", "churn-tls", "cpu_conn"),
]
OTHERS = [("nginx", "o", "nginx"), ("haproxy", "D", "HAProxy"), ("floor", "|", "bare hyper")]


def main():
    figures = Figures(json.load(sys.stdin))
    rows = [row for row in ROWS if figures.rounds(row[1], "", "tidegate", row[2]) and envoy(figures, row)]
    matplotlib.rcParams.update({
        "font.family": "sans-serif", "font.size": 11, "text.color": TEXT, "xtick.color": TEXT, "ytick.color": TEXT,
        "axes.edgecolor": FAINT, "svg.fonttype": "path", "svg.hashsalt": "tidegate",
    })
    picture, axes = pyplot.subplots(figsize=(9, 1.5 + 0.46 * len(rows)))
    for place, row in enumerate(rows):
        draw(axes, figures, place, row)
    dress(axes, rows)
    picture.tight_layout()
    picture.savefig(sys.argv[1], transparent=True, metadata={"Date": None})
    pyplot.close(picture)


def envoy(figures, row):
    return figures.rounds(row[1], "", "envoy", row[2])


def draw(axes, figures, place, row):
    theirs = envoy(figures, row)
    ours = figures.rounds(row[1], "", "tidegate", row[2])
    share = ratio(ours, theirs)
    axes.barh(place, share, height=0.56, color=OURS, zorder=2)
    axes.text(1.38, place, f"{share:.2f}", va="center", ha="center", color=OURS, fontweight="bold")
    axes.text(1.62, place, f"{middle(ours):.0f} : {middle(theirs):.0f} µs", va="center", ha="center", fontsize=10)
    for peer, marker, _ in OTHERS:
        found = ratio(figures.rounds(row[1], "", peer, row[2]), theirs)
        if found:
            axes.plot(found, place, **style(marker))


def style(marker):
    if marker == "|":
        return {"marker": "|", "markersize": 17, "markeredgewidth": 3, "color": FLOOR, "zorder": 4, "linestyle": ""}
    return {"marker": marker, "markersize": 6.5, "markerfacecolor": "#d7dbe0", "markeredgecolor": "#5d6570",
            "markeredgewidth": 1.1, "zorder": 5, "linestyle": ""}


def dress(axes, rows):
    axes.axvline(1, color=THEIRS, linewidth=2, zorder=3)
    axes.text(1, -0.72, "Envoy", color=THEIRS, ha="center", va="bottom", fontweight="bold")
    axes.text(1.62, -0.72, "Tidegate : Envoy", ha="center", va="bottom", fontsize=10)
    axes.set_yticks(range(len(rows)), [label for label, _, _ in rows])
    axes.set_ylim(len(rows) - 0.4, -0.7)
    axes.set_xlim(0, 1.3)
    axes.set_xticks([0, 0.25, 0.5, 0.75, 1, 1.25], ["0", "¼", "½", "¾", "1", "1¼"])
    axes.grid(axis="x", color=FAINT, linewidth=0.7, zorder=0)
    axes.tick_params(length=0)
    for side in axes.spines.values():
        side.set_visible(False)
    title = "CPU per request, with Envoy as 1 (less is better)"
    axes.set_title(title, x=0, ha="left", pad=26, fontsize=13, fontweight="bold")
    keys = [axes.barh(0, 0, color=OURS, label="Tidegate")]
    keys += [axes.plot([], [], label=label, **{**style(marker), "markersize": 9})[0] for _, marker, label in OTHERS]
    axes.legend(handles=keys, loc="upper center", bbox_to_anchor=(0.45, -0.05), ncols=4, frameon=False)


if __name__ == "__main__":
    main()
