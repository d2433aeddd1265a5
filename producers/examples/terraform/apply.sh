#!/bin/sh
# The whole apply as a deployment of the infrastructure: its state is what changed, the commit its version.
#   ./apply.sh [options of terraform apply]
exec deploytrail run --service platform --environment production --kind infrastructure \
    --version "$(git rev-parse --short HEAD 2>/dev/null || echo unknown)" \
    -- "${TERRAFORM:-terraform}" apply -input=false -auto-approve "$@"
