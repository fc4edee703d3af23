"""Plugins of others that come with packages of registries: the examples in releases of the public Rust SDK.

Later releases of the SDK have none, and other SDKs publish none at all: for those there is `--modules`.
"""

import json
import pathlib
import shutil
import subprocess

import plugins
from oracle import proxies

common = proxies.common
#: Crates and versions that have examples: of the ABIs 0.1.0, 0.2.0 and, again, 0.1.0.
CRATES = [("proxy-wasm", "0.1.4"), ("proxy-wasm", "0.2.0"), ("proxy-wasm-experimental", "0.0.8")]
#: What the examples need beside the SDK.
NEEDED = 'log = "0.4"\nchrono = { version = "0.4", default-features = false, features = ["std"] }\ncfg-if = "1"\n'
#: These releases leave it to the linker that their imports are in `env`.
BUILD = 'fn main() {\n    println!("cargo::rustc-link-arg-cdylib=--allow-undefined");\n}\n'


def package(folder, name, dependency, path):
    folder.mkdir(parents=True, exist_ok=True)
    text = f'[package]\nname = "{name}"\nversion = "0.0.0"\nedition = "2018"\n\n'
    text += f'[lib]\ncrate-type = ["cdylib"]\npath = "{path}"\n\n[dependencies]\n{dependency}\n{NEEDED}'
    (folder / "Cargo.toml").write_text(text)
    (folder / "build.rs").write_text(BUILD)


def fetched(folder, crate, version):
    """Has cargo bring a crate; returns its folder."""
    folder.mkdir(parents=True, exist_ok=True)
    manifest = folder / "Cargo.toml"
    text = f'[package]\nname = "fetch"\nversion = "0.0.0"\n[lib]\npath = "none.rs"\n[workspace]\n'
    manifest.write_text(f'{text}[dependencies]\n{crate} = "={version}"\n')
    (folder / "none.rs").write_text("")
    command = ["cargo", "metadata", "--format-version", "1", "--manifest-path", str(manifest)]
    found = json.loads(subprocess.check_output(command, text=True))["packages"]
    return pathlib.Path(next(one["manifest_path"] for one in found if one["name"] == crate)).parent


def modules():
    """Builds them; returns a folder of modules, with one for each crate in it."""
    place = common.TARGET / "oracle"
    shutil.rmtree(place, ignore_errors=True)
    members = {}
    for number, (crate, version) in enumerate(CRATES):
        source = fetched(place / "fetch" / str(number), crate, version)
        library = f'{crate} = "={version}"'
        for example in sorted(source.glob("examples/*.rs")):
            name = f"sdk{number}_{example.stem}"
            package(place / "build" / name, name, library, example)
            members[name] = f"{crate}-{version}/{example.stem}.wasm"
    # As in our own plugins, and in their folder, so that the standard library is built once.
    profile = (plugins.HERE / "Cargo.toml").read_text().partition("[profile.release]")[2]
    workspace = f"[workspace]\nresolver = \"2\"\nmembers = {json.dumps(sorted(members))}\n\n[profile.release]{profile}"
    (place / "build" / "Cargo.toml").write_text(workspace)
    built = plugins.build(place / "build", plugins.target_dir())
    for name, wanted in members.items():
        module = place / "modules" / wanted
        module.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(built / f"{name}.wasm", module)
    return place / "modules"
