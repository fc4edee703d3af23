# The CNI plugin and its installer: one static binary and nothing else, so that it runs on a node of any libc. From
# the root of the repository, for one platform or several:
#   docker buildx build --file images/cni.Dockerfile --platform linux/amd64,linux/arm64 --tag tidegate/cni .
FROM rust:1.95-bookworm AS build
WORKDIR /src
COPY . .
# Static, so that the image needs no libc; with a target named, build scripts stay as they are.
RUN RUSTFLAGS="-C target-feature=+crt-static" cargo build --release --locked --package tidegate-cni \
        --target "$(uname -m)-unknown-linux-gnu" \
    && cp "target/$(uname -m)-unknown-linux-gnu/release/tidegate-cni" /tidegate-cni
RUN mkdir -p /root-fs/etc/ssl/certs /root-fs/tmp && chmod 1777 /root-fs/tmp \
    && echo "tidegate:x:65532:65532::/:/nonexistent" > /root-fs/etc/passwd \
    && echo "hosts: files dns" > /root-fs/etc/nsswitch.conf \
    && cp /etc/ssl/certs/ca-certificates.crt /root-fs/etc/ssl/certs/

FROM scratch
COPY --from=build /root-fs/ /
COPY --from=build /tidegate-cni /tidegate-cni
USER 65532:65532
ENTRYPOINT ["/tidegate-cni"]
