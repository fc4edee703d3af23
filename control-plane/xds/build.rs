//! Generates the gRPC clients and servers of discovery, rate limits, quotas, load reports, certificates and decisions; their messages are those of `tidegate-proto`.

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let include = ["../../proto/xds", "../../proto"];
    let services = [
        "envoy/service/discovery/v3/discovery.proto",
        "envoy/service/ratelimit/v3/rls.proto",
        "envoy/service/rate_limit_quota/v3/rlqs.proto",
        "envoy/service/load_stats/v3/lrs.proto",
        "istio/v1/auth/ca.proto",
        "tidegate/v1/decisions.proto",
    ];
    let descriptors = protox::compile(services, include)?;
    tonic_prost_build::configure()
        .extern_path(".envoy", "::tidegate_proto::envoy")
        .extern_path(".istio", "::tidegate_proto::istio")
        .extern_path(".google.rpc", "::tidegate_proto::google::rpc")
        .extern_path(".tidegate", "::tidegate_proto::tidegate")
        .compile_fds(descriptors)?;
    for folder in ["../../proto/xds", "../../proto/tidegate"] {
        println!("cargo::rerun-if-changed={folder}");
    }
    Ok(())
}
