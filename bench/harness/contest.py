"""One peer in one variant of a scenario, with the processes around it."""

import contextlib
import dataclasses
import os
import pathlib
import subprocess
import tempfile

import common
from harness import checks
from harness.scenarios import Scenario
from peers import PEERS
from peers.features import Features, Place

NGINX = """\
worker_processes 1; daemon off; pid {dir}/app.pid; error_log {dir}/app.log; worker_rlimit_nofile 65536;
events {{ worker_connections 16384; }}
http {{
  access_log off; keepalive_requests 1000000000; keepalive_timeout 1h; client_max_body_size 0;
  client_body_temp_path {dir}/body; proxy_temp_path {dir}/proxy;
  fastcgi_temp_path {dir}/fastcgi; uwsgi_temp_path {dir}/uwsgi; scgi_temp_path {dir}/scgi;
  server {{ listen 127.0.0.1:{app} backlog=4096; location / {{ return 200 "app\\n"; }} }}
  server {{ listen 127.0.0.1:{canary} backlog=4096; location / {{ return 200 "canary\\n"; }} }}
}}
"""


@dataclasses.dataclass
class Contest:
    scenario: Scenario
    variant: str
    peer: str
    features: Features
    port: int
    folder: pathlib.Path
    certificate: pathlib.Path
    collector: int = 0
    process: subprocess.Popen = None
    pids: tuple = ()

    def __str__(self):
        return f"{self.peer} ({self.variant})" if self.variant else self.peer

    @property
    def path(self):
        return self.scenario.paths.get(self.variant, self.features.path)

    @property
    def log(self):
        return self.folder / "access.log"

    def empty_log(self):
        with contextlib.suppress(FileNotFoundError):
            os.truncate(self.log, 0)


class Stage:
    """The backends and the peers of one scenario; all end with the stack."""

    def __init__(self, stack, scenario):
        memory = "/dev/shm" if os.path.isdir("/dev/shm") else None
        self.stack = stack
        self.scenario = scenario
        self.folder = pathlib.Path(stack.enter_context(tempfile.TemporaryDirectory(dir=memory)))
        self.app, self.canary = common.free_ports(2)
        subprocess.run([common.binary("tidegate-bench"), "certificate", str(self.folder)], check=True)
        self.plugin = self.folder / "adds_header.wasm"
        if any(features.plugin for features in scenario.variants.values()):
            source = common.ROOT / "bench" / "plugins" / "adds_header.wat"
            subprocess.run(["wat2wasm", str(source), "-o", str(self.plugin)], check=True)
        self._backend()

    def _backend(self):
        if self.scenario.echo:
            self.echo(self.app)
            return
        config = self.folder / "app.conf"
        config.write_text(NGINX.format(dir=self.folder, app=self.app, canary=self.canary))
        command = ["nginx", "-e", str(self.folder / "app.log"), "-c", str(config)]
        self.stack.enter_context(common.process(common.pinned(1, command), self.folder / "log"))
        common.wait_until_answers(self.app)

    def echo(self, port):
        command = [common.binary("tidegate-bench"), "echo", "--listen", f"127.0.0.1:{port}", "--text", "app"]
        self.stack.enter_context(common.process(common.pinned(1, command), self.folder / "log"))
        common.wait_until_answers(port)

    def direct(self, variant, features):
        """The backend itself, as one more that is asked."""
        return Contest(self.scenario, variant, "direct", features, self.app, self.folder, self.folder)

    def contest(self, variant, peer, features, stack=None):
        """Starts a peer; it has not been waited for."""
        port, collector = common.free_ports(2)
        folder = pathlib.Path(tempfile.mkdtemp(prefix=f"{peer}-", dir=self.folder))
        contest = Contest(self.scenario, variant, peer, features, port, folder, self.folder, collector)
        if features.traced is not None:
            self.echo(collector)
        place = Place(folder, port, self.app, self.canary, collector, self.folder, self.plugin, contest.log)
        contest.process = PEERS[peer].start(stack or self.stack, features, place)
        return contest


def set_up(stack, scenario, peers):
    """All contests of a scenario, started and checked."""
    stage = Stage(stack, scenario)
    contests = []
    for variant, features in scenario.variants.items():
        if scenario.direct:
            contests.append(stage.direct(variant, features))
        for peer in peers:
            if not PEERS[peer].cannot(features):
                contests.append(stage.contest(variant, peer, features))
    for contest in contests:
        if contest.peer != "direct":
            checks.check(contest)
            contest.pids = tuple(common.family(contest.process.pid))
    return stage, contests
