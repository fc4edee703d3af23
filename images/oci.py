#!/usr/bin/env python3
"""An image without a container engine: an OCI image layout, as a tar, from binaries that are there already.

    python3 images/oci.py proxy --binary amd64=target/x86_64-unknown-linux-gnu/release/tidegate-proxy --out proxy.tar
    skopeo copy oci-archive:proxy.tar docker://registry.example.com/tidegate/proxy:0.1.0

`proxy`, `control-plane` and `cni` are the binary and nothing else, so it must be static (images/README.md says how). `cli` needs
iptables under it: give the tar of a root file system with --base. With one --binary for each architecture, the image has
all of them. Same input, same bytes: times are $SOURCE_DATE_EPOCH, else 0.

    python3 images/oci.py --check proxy.tar

says what is in a layout, and whether every digest and size in it is right.
"""

import argparse
import gzip
import hashlib
import io
import json
import os
import pathlib
import sys
import tarfile
import time

MEDIA = "application/vnd.oci.image"
EPOCH = int(os.environ.get("SOURCE_DATE_EPOCH", "0"))
CREATED = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(EPOCH))
#: Nobody: may write nowhere but to /tmp.
USER = 65532
#: Path of the binary in each image.
IMAGES = {
    "proxy": "tidegate-proxy",
    "control-plane": "tidegate-control-plane",
    "cni": "tidegate-cni",
    "cli": "usr/bin/tidegate",
}
#: e_machine of an ELF header.
MACHINES = {"amd64": 62, "arm64": 183}
CERTIFICATES = pathlib.Path("/etc/ssl/certs/ca-certificates.crt")
PT_INTERP = 3


class Layout:
    """Blobs by their digest, and what leads to them."""

    def __init__(self):
        self.blobs = {}

    def add(self, kind, data, **more):
        digest = hashlib.sha256(data).hexdigest()
        self.blobs[digest] = data
        return {"mediaType": f"{MEDIA}.{kind}", "digest": f"sha256:{digest}", "size": len(data), **more}

    def add_json(self, kind, value, **more):
        return self.add(kind, json.dumps(value, sort_keys=True).encode(), **more)

    def write(self, path, index):
        with tarfile.open(path, "w", format=tarfile.PAX_FORMAT) as archive:
            add_file(archive, "oci-layout", json.dumps({"imageLayoutVersion": "1.0.0"}).encode(), 0o644)
            add_file(archive, "index.json", json.dumps(index, sort_keys=True).encode(), 0o644)
            for digest, data in sorted(self.blobs.items()):
                add_file(archive, f"blobs/sha256/{digest}", data, 0o644)


def entry(name, mode, kind=tarfile.REGTYPE):
    info = tarfile.TarInfo(name)
    info.mode, info.mtime, info.type = mode, EPOCH, kind
    return info


def add_file(archive, name, data, mode):
    info = entry(name, mode)
    info.size = len(data)
    archive.addfile(info, io.BytesIO(data))


def layer(path, binary):
    """The binary, and the few files that a program expects of any system."""
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w", format=tarfile.PAX_FORMAT) as archive:
        if "/" not in path:
            for folder, mode in (("etc", 0o755), ("etc/ssl", 0o755), ("etc/ssl/certs", 0o755), ("tmp", 0o1777)):
                archive.addfile(entry(folder, mode, tarfile.DIRTYPE))
            add_file(archive, "etc/passwd", f"tidegate:x:{USER}:{USER}::/:/nonexistent\n".encode(), 0o644)
            add_file(archive, "etc/nsswitch.conf", b"hosts: files dns\n", 0o644)
            if CERTIFICATES.exists():
                add_file(archive, "etc/ssl/certs/ca-certificates.crt", CERTIFICATES.read_bytes(), 0o644)
        add_file(archive, path, binary, 0o755)
    return out.getvalue()


def header(binary, name):
    """What an ELF header says: machine, and whether another program must be there to load it."""
    if binary[:4] != b"\x7fELF" or binary[4] != 2:
        sys.exit(f"{name} is no 64-bit ELF binary")
    machine = int.from_bytes(binary[18:20], "little")
    offset, size, count = (int.from_bytes(binary[a:b], "little") for a, b in ((32, 40), (54, 56), (56, 58)))
    kinds = [int.from_bytes(binary[at : at + 4], "little") for at in range(offset, offset + size * count, size)]
    return machine, PT_INTERP in kinds


def unpacked(data):
    return gzip.decompress(data) if data[:2] == b"\x1f\x8b" else data


def image(layout, name, arch, binary, base, version):
    machine, is_dynamic = header(binary, name)
    if machine != MACHINES[arch]:
        sys.exit(f"{name}: the binary is of another machine than {arch}")
    if is_dynamic and not base:
        sys.exit(f"{name}: the binary is not static, and nothing that it needs would be in the image: see images/README.md")
    tars = [unpacked(base), layer(IMAGES[name], binary)] if base else [layer(IMAGES[name], binary)]
    layers = [layout.add("layer.v1.tar+gzip", gzip.compress(tar, mtime=0)) for tar in tars]
    config = {
        "created": CREATED,
        "architecture": arch,
        "os": "linux",
        "config": {
            "User": f"{USER}:{USER}",
            "Entrypoint": [f"/{IMAGES[name]}"],
            "Env": ["PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin:/"],
            "Labels": {"org.opencontainers.image.title": f"tidegate {name}", "org.opencontainers.image.version": version},
        },
        "rootfs": {"type": "layers", "diff_ids": [f"sha256:{hashlib.sha256(tar).hexdigest()}" for tar in tars]},
        "history": [{"created": CREATED, "created_by": "images/oci.py"} for _ in tars],
    }
    manifest = {
        "schemaVersion": 2,
        "mediaType": f"{MEDIA}.manifest.v1+json",
        "config": layout.add_json("config.v1+json", config),
        "layers": layers,
    }
    return layout.add_json("manifest.v1+json", manifest, platform={"os": "linux", "architecture": arch})


def build(args):
    layout = Layout()
    bases = dict(base.split("=", 1) for base in args.base)
    manifests = []
    for one in args.binary:
        arch, _, path = one.partition("=")
        if arch not in MACHINES or not path:
            sys.exit(f"--binary {one}: write ARCH=PATH, where ARCH is one of {', '.join(MACHINES)}")
        base = pathlib.Path(bases[arch]).read_bytes() if arch in bases else None
        manifests.append(image(layout, args.image, arch, pathlib.Path(path).read_bytes(), base, args.version))
    whole = manifests[0]
    if len(manifests) > 1:
        index = {"schemaVersion": 2, "mediaType": f"{MEDIA}.index.v1+json", "manifests": manifests}
        whole = layout.add_json("index.v1+json", index)
    whole = {**whole, "annotations": {"org.opencontainers.image.ref.name": args.version}}
    layout.write(args.out, {"schemaVersion": 2, "mediaType": f"{MEDIA}.index.v1+json", "manifests": [whole]})
    print(f"{args.out}: {whole['digest']}")


def read(path):
    with tarfile.open(path) as archive:
        return {member.name: archive.extractfile(member).read() for member in archive if member.isfile()}


def images_of(path):
    """Every image of a layout: its config and its layers, unpacked; everything on the way is checked."""
    files = read(path)
    if json.loads(files["oci-layout"]) != {"imageLayoutVersion": "1.0.0"}:
        sys.exit(f"{path}: no OCI image layout")
    seen = set()

    def blob(descriptor):
        digest = descriptor["digest"].removeprefix("sha256:")
        data = files.get(f"blobs/sha256/{digest}")
        if data is None or hashlib.sha256(data).hexdigest() != digest or len(data) != descriptor["size"]:
            sys.exit(f"{path}: {descriptor['digest']} is not what it is said to be")
        seen.add(f"blobs/sha256/{digest}")
        return data

    def walk(index):
        for descriptor in index["manifests"]:
            value = json.loads(blob(descriptor))
            if descriptor["mediaType"].endswith("index.v1+json"):
                yield from walk(value)
                continue
            config = json.loads(blob(value["config"]))
            tars = [unpacked(blob(one)) for one in value["layers"]]
            if [f"sha256:{hashlib.sha256(tar).hexdigest()}" for tar in tars] != config["rootfs"]["diff_ids"]:
                sys.exit(f"{path}: the layers are not those of the configuration")
            yield config, tars

    found = list(walk(json.loads(files["index.json"])))
    strangers = {name for name in files if name.startswith("blobs/")} - seen
    if strangers:
        sys.exit(f"{path}: nothing leads to {', '.join(sorted(strangers))}")
    return found


def check(path):
    for config, tars in images_of(path):
        names = [member.name for tar in tars for member in tarfile.open(fileobj=io.BytesIO(tar))]
        print(f"{config['os']}/{config['architecture']}: {config['config']['Entrypoint'][0]} as {config['config']['User']}, "
              f"{sum(map(len, tars)) >> 20} MiB in {len(names)} files")


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("image", nargs="?", choices=IMAGES)
    parser.add_argument("--binary", action="append", default=[], metavar="ARCH=PATH")
    parser.add_argument("--base", action="append", default=[], metavar="ARCH=PATH", help="a root file system, as a tar")
    parser.add_argument("--version", default="0.1.0")
    parser.add_argument("--out", metavar="FILE")
    parser.add_argument("--check", metavar="FILE")
    args = parser.parse_args()
    if args.check:
        check(args.check)
    elif args.image and args.binary and args.out:
        build(args)
    else:
        parser.error("give an image, --binary and --out; or --check")


if __name__ == "__main__":
    main()
