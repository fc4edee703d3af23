//! Generates the gRPC client and server of the discovery and the rate limit service; their messages are those of `tidegate-proto`.

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let include = "../../proto/xds";
    let services = ["envoy/service/discovery/v3/discovery.proto", "envoy/service/ratelimit/v3/rls.proto"];
    let descriptors = protox::compile(services, [include])?;
    tonic_prost_build::configure()
        .extern_path(".envoy", "::tidegate_proto::envoy")
        .extern_path(".google.rpc", "::tidegate_proto::google::rpc")
        .compile_fds(descriptors)?;
    println!("cargo::rerun-if-changed={include}");
    Ok(())
}
