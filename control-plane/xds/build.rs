//! Generates the gRPC client and server of the discovery and the rate limit services; their messages are those of `tidegate-proto`.

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let include = "../../proto/xds";
    let services = [
        "envoy/service/discovery/v3/discovery.proto",
        "envoy/service/ratelimit/v3/rls.proto",
        "envoy/service/rate_limit_quota/v3/rlqs.proto",
    ];
    let descriptors = protox::compile(services, [include, "../../proto"])?;
    tonic_prost_build::configure()
        .extern_path(".envoy", "::tidegate_proto::envoy")
        .extern_path(".tidegate", "::tidegate_proto::tidegate")
        .extern_path(".google.rpc", "::tidegate_proto::google::rpc")
        .compile_fds(descriptors)?;
    println!("cargo::rerun-if-changed={include}");
    Ok(())
}
