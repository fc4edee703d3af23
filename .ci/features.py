#!/usr/bin/env python3
"""Whether all programs are built by bench/common.py, and with the features that `tidegate` alone is built with.

Cargo builds a crate anew for each set of features that the packages of one command ask of it. Where a program asks for one more
of a crate that all others stand on, `cargo run --release` and the measurements compile everything twice, which is a
quarter of an hour. Whoever needs the feature asks for it in the workspace's Cargo.toml, for all.
"""

import json
import pathlib
import subprocess
import sys

ROOT = pathlib.Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT / "bench"))
import common  # noqa: E402


def features(programs):
    """{crate with its version: the sets of features that it is built with}."""
    chosen = [word for program in programs for word in ("--package", program)]
    command = ["cargo", "tree", *chosen, "--edges", "normal,build", "--prefix", "none", "--format", "{p}\t{f}"]
    told = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True).stdout
    found = {}
    for line in told.splitlines():
        crate, _, asked = line.removesuffix(" (*)").partition("\t")
        found.setdefault(crate, set()).add(asked)
    return found


def packages():
    """Those of the workspace that have a program."""
    command = ["cargo", "metadata", "--no-deps", "--format-version", "1"]
    told = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True).stdout
    found = json.loads(told)["packages"]
    return {package["name"] for package in found if any("bin" in target["kind"] for target in package["targets"])}


def main():
    forgotten = packages() ^ set(common.PROGRAMS)
    if forgotten:
        sys.exit(f"features: bench/common.py does not name the packages with programs: {', '.join(sorted(forgotten))}")
    alone, together = features(common.PROGRAMS[:1]), features(common.PROGRAMS)
    different = sorted(crate for crate, asked in alone.items() if asked != together[crate])
    for crate in different:
        more = {name for asked in together[crate] for name in asked.split(",")}
        more -= {name for asked in alone[crate] for name in asked.split(",")}
        print(f"features: {crate}: another program asks for {', '.join(sorted(more)) or 'fewer'}", file=sys.stderr)
    if different:
        sys.exit("features: ask for them in the workspace's Cargo.toml, or everything above is compiled twice")
    print(f"features: {len(alone)} crates of tidegate are the same beside the other programs")


if __name__ == "__main__":
    main()
