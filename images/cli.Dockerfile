# The command `tidegate` with iptables: the init container of injected pods, and `helm test`.
#   docker buildx build --file images/cli.Dockerfile --platform linux/amd64,linux/arm64 --tag tidegate/cli .
FROM rust:1.95-bookworm AS build
WORKDIR /src
COPY . .
RUN cargo build --release --locked -p tidegate && cp target/release/tidegate /tidegate

FROM debian:bookworm-slim
RUN apt-get update && apt-get install --yes --no-install-recommends iptables ca-certificates \
    && rm -rf /var/lib/apt/lists/*
COPY --from=build /tidegate /usr/bin/tidegate
USER 65532:65532
ENTRYPOINT ["/usr/bin/tidegate"]
