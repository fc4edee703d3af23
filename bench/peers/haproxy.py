"""HAProxy, from Debian."""

import subprocess

import common
from peers.features import NEVER

TITLE = "HAProxy"

CONFIG = """\
global
  nbthread 1
  maxconn 8000
defaults
  mode http
  timeout connect 1s
  timeout client 60s
  timeout server 60s
  timeout http-keep-alive 60s
  option forwardfor
frontend in
  bind 127.0.0.1:{port} backlog 4096{bind}
{frontend}
  default_backend app
backend app
  http-reuse always
  server one 127.0.0.1:{app} pool-max-conn -1{server}
backend canary
  http-reuse always
  server one 127.0.0.1:{canary} pool-max-conn -1{server}
"""

LIMIT = """\
  stick-table type ip size 100k expire 3600s store http_req_rate({period})
  http-request track-sc0 src
  http-request deny deny_status 429 if {{ sc_http_req_rate(0) gt {most} }}
"""

CANARY = """\
  use_backend canary if { req.hdr(x-canary) -m str always }
  use_backend canary if { rand(100) lt 10 }
"""


def cannot(features):
    if features.traced is not None:
        return "no OTLP in Debian's HAProxy"
    if features.plugin is not None:
        return "no proxy-wasm in Debian's HAProxy"
    if features.breaker:
        return "no breaker and no caps of its kind"
    return None


def missing():
    return common.missing("haproxy")


def prepare():
    pass


def version():
    out = subprocess.run(["haproxy", "-v"], capture_output=True, text=True, check=True).stdout
    return out.split()[2].split("-")[0]


def start(stack, features, place):
    config = place.folder / "haproxy.cfg"
    config.write_text(write(features, place))
    command = ["haproxy", "-db", "-f", str(config)]
    # It logs to its own output, which is therefore the access log where there is one.
    log = place.log if features.log else place.folder / "log"
    return stack.enter_context(common.process(common.pinned(0, command), log))


def write(features, place):
    frontend = ""
    if features.log:
        frontend += "  log stdout format raw local0\n  option httplog\n"
    if features.limit == "trips":
        frontend += LIMIT.format(period="3600s", most=1)
    elif features.limit:
        frontend += LIMIT.format(period="1s", most=NEVER)
    if features.canary:
        frontend += CANARY
    if features.routes > 1:
        table = place.folder / "routes.map"
        table.write_text("".join(f"{prefix} app\n" for prefix in features.prefixes))
        frontend += f"  use_backend %[path,map_beg({table})]\n"
    bind = " proto h2" if features.http2 else ""
    if features.tls:
        both = place.folder / "both.pem"
        both.write_text("".join((place.certificate / name).read_text() for name in ("cert.pem", "key.pem")))
        bind = f" ssl crt {both} alpn http/1.1 ssl-min-ver TLSv1.3 no-tls-tickets"
    return CONFIG.format(
        port=place.port, app=place.app, canary=place.canary, frontend=frontend, bind=bind,
        server=" proto h2" if features.http2 else "",
    )
