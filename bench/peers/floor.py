"""The floor: hyper's server and hyper's client with nothing between (bench/load/src/floor.rs)."""

import common

TITLE = "floor"


def cannot(features):
    if features.limit or features.canary or features.breaker or features.log or features.tls:
        return "forwards, and nothing else"
    if features.routes > 1 or features.traced is not None or features.plugin is not None:
        return "forwards, and nothing else"
    return None


def missing():
    return None


def prepare():
    pass


def version():
    lines = (common.ROOT / "Cargo.lock").read_text().splitlines()
    found = lines[lines.index('name = "hyper"') + 1]
    return "hyper " + found.split('"')[1]


def start(stack, features, place):
    command = [common.binary("tidegate-bench"), "floor", "--listen", f"127.0.0.1:{place.port}"]
    command += ["--upstream", f"127.0.0.1:{place.app}"] + (["--h2"] if features.http2 else [])
    return stack.enter_context(common.process(common.pinned(0, command), place.folder / "log"))
