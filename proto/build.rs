//! Compiles the .proto files with protox, so that no protoc has to be installed.

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let files = [
        "xds/envoy/service/discovery/v3/discovery.proto",
        "xds/envoy/service/ratelimit/v3/rls.proto",
        "xds/envoy/service/rate_limit_quota/v3/rlqs.proto",
        "xds/envoy/service/load_stats/v3/lrs.proto",
        "xds/istio/v1/auth/ca.proto",
        "tidegate/v1/decisions.proto",
        "tidegate/v1/resources.proto",
    ];
    let descriptors = protox::compile(files, ["xds", "."])?;
    // Only messages: services belong to the crate that speaks gRPC.
    let mut config = prost_build::Config::new();
    // A certificate holds a private key, which must not be printed.
    config.btree_map(["."]).skip_debug([".tidegate.v1.Certificate"]).compile_fds(descriptors)?;
    println!("cargo::rerun-if-changed=xds");
    println!("cargo::rerun-if-changed=tidegate");
    Ok(())
}
