# syntax=docker/dockerfile:1
# Weir in a small image: docker build -t weir .

# Both bases by their narrowest tag: this project is built and tested without a registry, so it has no digest that it
# has verified. docs/INSTALL.md#docker says how to build with digests.
FROM rust:1.95.0-slim-bookworm AS build
# aws-lc-rs is built from C; this image has a compiler.
WORKDIR /src
# The list of crates goes into the binary, for scanners: docs/INSTALL.md#what-is-in-it.
RUN --mount=type=cache,target=/usr/local/cargo/registry \
    cargo install --locked cargo-auditable@0.7.7
# What of the tree: .dockerignore.
COPY . .
# A cache of its own for each platform: a build for several runs them at the same time.
ARG TARGETPLATFORM
RUN --mount=type=cache,target=/usr/local/cargo/registry \
    --mount=type=cache,id=weir-target-${TARGETPLATFORM},target=/src/target \
    cargo auditable build --profile dist --locked --bin weir --bin weir-lab \
    && install -D --strip --target-directory /out target/dist/weir target/dist/weir-lab

# The C library and the CA certificates of Debian, a user without rights, and no shell.
FROM gcr.io/distroless/cc-debian12:nonroot
ARG VERSION=0.1.0
ARG REVISION=unknown
LABEL org.opencontainers.image.title="weir" \
      org.opencontainers.image.description="A relay between WSO2 API Manager gateways and Traffic Managers" \
      org.opencontainers.image.licenses="Apache-2.0" \
      org.opencontainers.image.version="${VERSION}" \
      org.opencontainers.image.revision="${REVISION}" \
      org.opencontainers.image.base.name="gcr.io/distroless/cc-debian12:nonroot"
# The laboratory too: the demo, a load generator, a stand-in Traffic Manager.
COPY --from=build /out/weir /out/weir-lab /usr/local/bin/
COPY LICENSE /usr/share/doc/weir/LICENSE
USER 65532:65532
# Mount the configuration here. Logs go to stderr; nothing is written to disk.
ENV WEIR_CONFIG=/etc/weir/weir.toml
# Events and logins; decisions (only with [decisions]); metrics and health (only where admin.listen is not loopback).
EXPOSE 9611 9711 5672 9619
STOPSIGNAL SIGTERM
# Asks the admin port, as /livez does, whether all workers answer. Set WEIR_ADMIN where admin.listen is not the default.
HEALTHCHECK --interval=15s --timeout=5s --start-period=10s --retries=3 \
    CMD ["/usr/local/bin/weir", "status"]
ENTRYPOINT ["/usr/local/bin/weir"]
# Keeps the ports open while weir is started again, passes signals on, and reaps.
CMD ["supervise"]
