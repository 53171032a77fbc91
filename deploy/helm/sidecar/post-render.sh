#!/bin/sh
# For helm install --post-renderer ./post-render.sh (Helm 3): what the chart rendered, with weir in it.
set -eu
cd "$(dirname "$0")"
cat >gateway.yaml
exec kubectl kustomize .
