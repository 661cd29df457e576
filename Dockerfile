# The image of operator and sidecar: one static binary and nothing else.
#
#   docker build -t registry.example.org/zenop:0.1.0 .
#
# For another architecture: docker build --platform linux/arm64, on a machine that can run it.
FROM rust:1.95-trixie AS build
WORKDIR /build
COPY . .
# With --target the flags are for the program alone: what runs during the build (macros) cannot be static.
# The target folder is a cache that is gone after this step, so the program is taken out of it.
RUN --mount=type=cache,target=/usr/local/cargo/registry \
    --mount=type=cache,target=/build/target \
    target="$(rustc -vV | sed -n 's/^host: //p')" \
    && RUSTFLAGS="-C target-feature=+crt-static" \
       cargo build --release --locked --package zenop --bin zenop --target "$target" \
    && cp "target/$target/release/zenop" /zenop

FROM scratch
LABEL org.opencontainers.image.title="zenop" \
      org.opencontainers.image.description="Kubernetes operator and auth sidecar for ZenML" \
      org.opencontainers.image.licenses="Apache-2.0"
COPY --from=build /zenop /zenop
# A number: Kubernetes can only tell of a number that it is not root.
USER 65532:65532
ENTRYPOINT ["/zenop"]
