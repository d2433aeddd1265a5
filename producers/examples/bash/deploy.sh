#!/usr/bin/env bash
# A deploy script that reports by itself, with a canary. Where a script need not change: `deploytrail run -- ./deploy.sh`.
#
#   DEPLOYTRAIL_URL, DEPLOYTRAIL_TOKEN, DEPLOYTRAIL_REGION are set by the environment.
#   ./deploy.sh VERSION
set -euo pipefail

version=$1
deployment=$(deploytrail start --service checkout --environment production --version "$version" --strategy canary)

ended() {
    local status=$?
    if [ "$status" = 0 ]; then
        deploytrail succeed "$deployment"
    else
        deploytrail fail "$deployment" --exit-code "$status" --error "${step:-begin} ended with status $status"
        deploytrail rollback "$deployment" -- ./roll_out.sh previous
    fi
}
trap ended EXIT

step="the canary"
./roll_out.sh canary "$version"
deploytrail progress "$deployment" --cohort canary --cohort-weight 0.1

step="everyone"
./roll_out.sh everyone "$version"
