"""nginx, from Debian."""

import subprocess

import common

TITLE = "nginx"

CONFIG = """\
worker_processes 1; daemon off; pid {dir}/nginx.pid; error_log {dir}/nginx.log; worker_rlimit_nofile 65536;
events {{ worker_connections 16384; }}
http {{
  access_log {log};
  keepalive_requests 1000000000; client_max_body_size 0;
  client_body_temp_path {dir}/body; proxy_temp_path {dir}/proxy;
  fastcgi_temp_path {dir}/fastcgi; uwsgi_temp_path {dir}/uwsgi; scgi_temp_path {dir}/scgi;
  upstream app {{ server 127.0.0.1:{app}; keepalive 1024; keepalive_requests 1000000000; }}
  upstream canary {{ server 127.0.0.1:{canary}; keepalive 1024; keepalive_requests 1000000000; }}
  proxy_http_version 1.1; proxy_set_header Connection ""; proxy_set_header Host $host;
  proxy_set_header X-Forwarded-For $proxy_add_x_forwarded_for;
  proxy_request_buffering off; proxy_max_temp_file_size 0;
{http}
  server {{
    listen 127.0.0.1:{port} backlog=4096{listen};
{server}
  }}
}}
"""

LIMIT = """\
  limit_req_zone $binary_remote_addr zone=limit:1m rate={rate};
  limit_req zone=limit{burst}; limit_req_status 429; limit_req_log_level info;
"""

CANARY = """\
  split_clients $request_id $share { 10% canary; * app; }
  map $http_x_canary $target { always canary; default $share; }
"""

TLS = """\
    ssl_certificate {dir}/cert.pem; ssl_certificate_key {dir}/key.pem;
    ssl_protocols TLSv1.3; ssl_session_tickets off; ssl_session_cache off;
"""


def cannot(features):
    if features.http2 and not features.grpc:
        return "speaks no HTTP/2 to backends"
    if features.traced is not None:
        return "no OTLP in Debian's nginx"
    if features.plugin is not None:
        return "no proxy-wasm in Debian's nginx"
    if features.breaker:
        return "no breaker and no caps of its kind"
    return None


def missing():
    return common.missing("nginx")


def prepare():
    pass


def version():
    return subprocess.run(["nginx", "-v"], capture_output=True, text=True, check=True).stderr.split("/")[1].strip()


def start(stack, features, place):
    config = place.folder / "nginx.conf"
    config.write_text(write(features, place))
    command = ["nginx", "-e", str(place.folder / "nginx.log"), "-c", str(config)]
    return stack.enter_context(common.process(common.pinned(0, command), place.folder / "log"))


def write(features, place):
    http = ""
    if features.limit == "trips":
        http += LIMIT.format(rate="1r/m", burst="")
    elif features.limit:
        http += LIMIT.format(rate="1000000r/s", burst=" burst=1000000 nodelay")
    if features.canary:
        http += CANARY
    to = "grpc_pass grpc://app" if features.grpc else "proxy_pass http://app"
    if features.canary:
        to = "proxy_pass http://$target"
    locations = features.prefixes if features.routes > 1 else ["/"]
    server = "".join(f"    location {prefix} {{ {to}; }}\n" for prefix in locations)
    if features.tls:
        server += TLS.format(dir=place.certificate)
    listen = (" ssl" if features.tls else "") + (" http2" if features.http2 else "")
    return CONFIG.format(
        dir=place.folder, log=place.log if features.log else "off", app=place.app, canary=place.canary,
        port=place.port, http=http, server=server, listen=listen,
    )
