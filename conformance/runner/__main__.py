"""The command: runs the suite's tests on several emulated clusters side by side and writes the report."""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from pathlib import Path

from .report import document, profiles, table
from .suite.runner import Result, start
from .workers import Setup, run_all

def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="conformance/run", description=__doc__)
    parser.add_argument("--suite", type=Path, required=True, help="a checkout of kubernetes-sigs/gateway-api")
    parser.add_argument("--tidegate", type=Path, required=True, help="the binary under test")
    parser.add_argument("--only", action="append", default=[], help="a test, or a part of its name; repeat for several")
    parser.add_argument("--jobs", type=int, default=2, help="emulated clusters side by side (default 2)")
    parser.add_argument("--report", type=Path, help="write a ConformanceReport here")
    parser.add_argument("--logs", type=Path, help="keep what the processes printed here")
    parser.add_argument("--verbose", action="store_true", help="show the log of each test that did not pass")
    return parser.parse_args()


def show(result: Result, verbose: bool) -> None:
    print(f"{result.outcome:8} {result.name} ({result.seconds} s) {result.reason}".rstrip(), flush=True)
    if verbose and result.outcome != "passed":
        for line in [*result.faults, *result.log]:
            print(f"         {line[:1500]}", flush=True)


def wanted(names: list[str], only: list[str]) -> list[str]:
    exact = [name for name in names if name in only]
    return exact or [name for name in names if not only or any(part in name for part in only)]


def main() -> int:
    asked = arguments()
    with tempfile.TemporaryDirectory(prefix="conformance-") as scratch:
        work = (asked.logs or Path(scratch)).resolve()
        work.mkdir(parents=True, exist_ok=True)
        suite, binary = asked.suite.resolve(), asked.tidegate.resolve()
        reader = start(suite, work, binary)
        reader.cluster.stop()
        names = wanted(list(reader.tests()), asked.only)
        begun = time.monotonic()
        results: list[Result] = []
        for result in run_all(names, asked.jobs, Setup(suite, work, binary)):
            results.append(result)
            show(result, asked.verbose)
    found = profiles(reader, results)
    print("\n" + table(found, results))
    print(f"{len(results)} tests in {time.monotonic() - begun:.0f} s")
    if asked.report:
        version = reader.program.load("sigs.k8s.io/gateway-api/pkg/consts").member("BundleVersion")
        asked.report.write_text(document(found, version))
    return 1 if any(result.outcome == "failed" for result in results) else 0


if __name__ == "__main__":
    sys.exit(main())
