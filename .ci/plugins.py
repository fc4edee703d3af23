#!/usr/bin/env python3
"""Builds the example plugins for wasm32-unknown-unknown; with --check, runs requests through each of them.

rustup's toolchain has no standard library for that target where there is no network for it. Debian's `rustc-web` builds one from
`rust-web-src`; both are installed if they can be. Without them this says so and ends with 3.
"""

import argparse
import json
import os
import pathlib
import shutil
import subprocess
import sys

HERE = pathlib.Path(__file__).resolve().parent.parent / "plugins"
PACKAGES = ["rustc-web", "rust-web-src"]
TARGET = "wasm32-unknown-unknown"
MISSING = 3


def version(package):
    said = subprocess.run(["dpkg-query", "-W", "-f", "${Version}", package], capture_output=True, text=True)
    return said.stdout.strip() if said.returncode == 0 else None


def compiler():
    """Debian's own; rustup's stands before it in PATH."""
    given = os.environ.get("PLUGIN_RUSTC")
    if given:
        return given
    if not all(map(version, PACKAGES)) and os.geteuid() == 0 and shutil.which("apt-get"):
        subprocess.run(["apt-get", "update", "-qq"], check=False)
        subprocess.run(["apt-get", "install", "-y", "-qq", "--no-install-recommends", *PACKAGES], check=False)
    versions = {version(package) for package in PACKAGES}
    if len(versions) != 1 or None in versions:
        print(f"plugins: not built: {' and '.join(PACKAGES)} are needed, in one version", file=sys.stderr)
        sys.exit(MISSING)
    return "/usr/bin/rustc"


def through(tidegate, module, *flags):
    """What `tidegate plugin test` says of one request."""
    said = subprocess.run([tidegate, "plugin", "test", module, "--json", *flags], capture_output=True, text=True)
    return json.loads(said.stdout)


def check(tidegate, modules):
    """Each does what its README says, and takes no configuration that it cannot read."""
    auth, redact = modules / "header_auth.wasm", modules / "redact_json.wasm"
    signed, template = modules / "signed_requests.wasm", modules / "template.wasm"
    known = ["--config", '{"header": "x-token", "tokens": {"abc": "ann"}}']
    passed = through(tidegate, auth, *known, "--header", "x-token: abc")
    assert passed["outcome"] == "passed" and "x-user: ann" in passed["request"]["headers"], passed
    assert not any("abc" in header for header in passed["request"]["headers"]), passed
    refused = through(tidegate, auth, *known, "--header", "x-token: abd")
    assert refused["response"]["status"] == 401 and refused["request"] is None, refused
    assert through(tidegate, auth, "--config", "{")["outcome"] == "refused"

    answer = ["--response-header", "content-type: application/json", "--response-body", '{"card": 7, "a": [{"iban": 1}]}']
    black = through(tidegate, redact, "--config", "card,iban", *answer)
    assert json.loads(black["responseBody"]) == {"card": "***", "a": [{"iban": "***"}]}, black

    keys = ["--config", '{"cluster": "keys", "path": "/verify", "header": "x-signature", "timeoutMs": 500}']
    keys += ["--upstream", "keys", "--header", "x-signature: s", "--path", "/buy"]
    good = through(tidegate, signed, *keys)
    assert good["outcome"] == "passed" and good["calls"][0]["body"] == "GET /buy example.test", good
    bad = through(tidegate, signed, *keys, "--call-status", "403")
    assert bad["response"]["status"] == 403 and bad["request"] is None, bad

    assert through(tidegate, template)["outcome"] == "passed"
    # The oracle asks this one more, beside a real Envoy.
    guard = modules / "line_guard.wasm"
    assert through(tidegate, guard, "--config", "{")["outcome"] == "refused"
    lines = ["--config", '{"deny": ["DROP"], "mask": ["secret"]}']
    kept = through(tidegate, guard, *lines, "--client", "GE", "--server", "a secret\n", "--client", "T a\n")
    told = [(said["from"], said["passed"]) for said in kept["carried"]]
    assert kept["outcome"] == "passed" and told == [("client", ""), ("server", "a ******\n"), ("client", "GET a\n")], kept
    ended = through(tidegate, guard, *lines, "--client", "DR", "--client", "OP all\n", "--server", "done\n")
    assert "closed" in ended["outcome"], ended
    assert not any(said["passed"] for said in ended["carried"] if said["from"] == "client"), ended
    # The SDK has a callback for connections in every module, and no context for them in this one.
    assert "trapped" in through(tidegate, auth, *known, "--client", "x")["outcome"]
    print("plugins: all five do as they say")


def environment(target_dir):
    """For a `cargo build` of plugins."""
    host = subprocess.check_output(["rustc", "--print", "host-tuple"], text=True).strip()
    sysroot = subprocess.check_output(["rustc", "--print", "sysroot"], text=True).strip()
    return {
        **os.environ,
        "RUSTC": compiler(),
        "RUSTC_BOOTSTRAP": "1",
        "CARGO_TARGET_DIR": str(target_dir),
        "CARGO_TARGET_WASM32_UNKNOWN_UNKNOWN_LINKER": f"{sysroot}/lib/rustlib/{host}/bin/rust-lld",
    }


def target_dir():
    return os.environ.get("PLUGIN_TARGET_DIR", str(HERE / "target"))


def build(folder, target_dir):
    """Builds the workspace in that folder; returns where its modules are."""
    command = ["cargo", "build", "--release", "--target", TARGET]
    command += ["-Z", "build-std=std,panic_abort", "-Z", "build-std-features="]
    subprocess.run(command, cwd=folder, env=environment(target_dir), check=True)
    return pathlib.Path(target_dir, TARGET, "release")


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("out", nargs="?", type=pathlib.Path, default=HERE / "target" / "modules", help="where to")
    parser.add_argument("--check", metavar="TIDEGATE", help="the binary to run them by")
    args = parser.parse_args()
    out = args.out
    built = build(HERE, target_dir())
    out.mkdir(parents=True, exist_ok=True)
    # Others may have been built in the same folder.
    own = (manifest.parent.name.replace("-", "_") for manifest in HERE.glob("*/Cargo.toml"))
    for module in sorted(built / f"{name}.wasm" for name in own):
        shutil.copy(module, out / module.name)
        print(out / module.name)
    if args.check:
        check(args.check, out)


if __name__ == "__main__":
    main()
