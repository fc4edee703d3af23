#!/usr/bin/env python3
"""Runs proxy-wasm plugins, of others and our own, in a real Envoy and in Tidegate, and tells what differs.

Both are asked the same. Envoy is the oracle: nothing is expected here but that Tidegate does as it does. Compared are
answers, what the backend and those whom a plugin calls received, the plugin's log and its metrics. What is left out of
that, and why, is in oracle/compare.py.

By itself it takes plugins that come with packages of registries; with --modules, those of a folder: FOLDER/SDK/NAME.wasm.
"""

import argparse
import pathlib
import sys
import time

from oracle import cases, compare, proxies, registry, run


def found(folder, wanted):
    """Name and path of each module."""
    for module in sorted(folder.rglob("*.wasm")):
        name = str(module.relative_to(folder).with_suffix(""))
        if not wanted or any(part in name for part in wanted):
            yield name, module


def plugins(module, case):
    roots = case.roots or [("", case.config)]
    several = "together" if len(roots) > 1 else ""
    return [run.Plugin(module, config, f"plugin-{i}", root, several) for i, (root, config) in enumerate(roots)]


def compared(module, case, plain):
    """What differs, how many requests went otherwise than without the plugin, and what is told of it in the table."""
    wanted = plugins(module, case)
    theirs = run.record(proxies.Envoy, wanted, case)
    # Where the plugin has failed in Envoy, nothing more can be compared.
    ours = run.record(proxies.Tidegate, wanted, case, most=len(theirs.exchanges) or None)
    wrong = compare.differences(case, theirs, ours)
    if theirs.refused and ours.refused:
        return wrong, "refused by both"
    effects = compare.effects(theirs, plain(case))
    ending = ", fails at the last" if theirs.trapped else ""
    return wrong, f"{effects} of {len(theirs.exchanges)} requests{ending}"


def unknown(case, differences):
    return [text for text in differences if not compare.known(case, text)]


def without():
    """Envoy's record of the same requests without a plugin, made once for each list of requests."""
    records = {}

    def plain(case):
        key = repr((case.requests, case.talks))
        if key not in records:
            records[key] = run.record(proxies.Envoy, [], cases.Case(requests=case.requests, talks=case.talks))
        return records[key]

    return plain


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("only", nargs="*", help="parts of the names of modules")
    parser.add_argument("--modules", type=pathlib.Path, help="a folder of modules, instead of those from registries")
    parser.add_argument("--binaries", type=pathlib.Path, help="where Tidegate has been built; default: builds it")
    args = parser.parse_args()
    proxies.common.BINARIES = args.binaries
    proxies.common.build()
    plain, failed, count = without(), 0, 0
    for name, module in found((args.modules or registry.modules()).resolve(), args.only):
        for title, case in cases.of(name).items():
            begun = time.monotonic()
            differences, effect = compared(module, case, plain)
            wrong = unknown(case, differences)
            if wrong:
                # What a busy machine logs late is taken for the next request's: once more, with more patience.
                with run.patient():
                    differences, effect = compared(module, case, plain)
                wrong = unknown(case, differences)
            reasons = {compare.known(case, text) for text in differences} - {None}
            count, failed = count + 1, failed + bool(wrong)
            shown = f"{name.rpartition('/')[0]}/{title}".lstrip("/")
            verdict = "DIFFERS" if wrong else "known" if reasons else "same"
            print(f"{shown:46} {verdict:8} {effect:36} {time.monotonic() - begun:5.1f} s", flush=True)
            for text in [*reasons, *wrong]:
                print(f"    {text}", flush=True)
    print(f"wasm oracle: {count - failed} of {count} behave as in Envoy")
    return 1 if failed or not count else 0


if __name__ == "__main__":
    sys.exit(main())
