#!/usr/bin/env python3
"""Builds the example plugins for wasm32-unknown-unknown, into the folder that is named.

rustup's toolchain has no standard library for that target where there is no network for it. Debian's `rustc-web` builds one from
`rust-web-src`; both are installed if they can be. Without them this says so and ends with 3, and the tests that need the
modules are skipped, not passed.
"""

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
        subprocess.run(["apt-get", "install", "-y", "-qq", "--no-install-recommends", *PACKAGES], check=False)
    versions = {version(package) for package in PACKAGES}
    if len(versions) != 1 or None in versions:
        print(f"plugins: not built: {' and '.join(PACKAGES)} are needed, in one version", file=sys.stderr)
        sys.exit(MISSING)
    return "/usr/bin/rustc"


def main():
    out = pathlib.Path(sys.argv[1] if len(sys.argv) > 1 else HERE / "target" / "modules")
    target_dir = os.environ.get("PLUGIN_TARGET_DIR", str(HERE / "target"))
    host = subprocess.check_output(["rustc", "--print", "host-tuple"], text=True).strip()
    sysroot = subprocess.check_output(["rustc", "--print", "sysroot"], text=True).strip()
    environment = {
        **os.environ,
        "RUSTC": compiler(),
        "RUSTC_BOOTSTRAP": "1",
        "CARGO_TARGET_DIR": target_dir,
        "CARGO_TARGET_WASM32_UNKNOWN_UNKNOWN_LINKER": f"{sysroot}/lib/rustlib/{host}/bin/rust-lld",
    }
    command = ["cargo", "build", "--release", "--target", TARGET]
    command += ["-Z", "build-std=std,panic_abort", "-Z", "build-std-features="]
    subprocess.run(command, cwd=HERE, env=environment, check=True)
    out.mkdir(parents=True, exist_ok=True)
    for module in sorted(pathlib.Path(target_dir, TARGET, "release").glob("*.wasm")):
        shutil.copy(module, out / module.name)
        print(out / module.name)


main()
