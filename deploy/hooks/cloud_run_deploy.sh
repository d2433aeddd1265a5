#!/bin/sh
# Deploys an image to a Cloud Run service, with a permit for it and not without (preventive).
#
#   SERVICE=checkout IMAGE=europe-docker.pkg.dev/shop/images/checkout@sha256:… DEPLOYTRAIL_PERMIT=… ./cloud_run_deploy.sh
#
# Settings: DEPLOYTRAIL_ENVIRONMENT, DEPLOYTRAIL_REGION, DEPLOYTRAIL_PERMIT_KEYS, DEPLOYTRAIL_PERMIT_ISSUER; DEPLOYTRAIL_URL to
# report. Exit code 77: the permit does not allow it; 69: nobody can tell; nothing was deployed then.
set -eu
: "${SERVICE:?which Cloud Run service}" "${IMAGE:?which image, by its digest}" "${DEPLOYTRAIL_REGION:?which region}"
digest=${IMAGE#*@}

deploytrail verify-permit --service "$SERVICE" --artifact-digest "$digest"

exec deploytrail run --service "$SERVICE" --artifact-digest "$digest" --artifact-uri "$IMAGE" -- \
  gcloud run deploy "$SERVICE" --image "$IMAGE" --region "$DEPLOYTRAIL_REGION" --quiet
