#!/bin/sh
# Deploys a task definition to an ECS service, with a permit for its image and not without (preventive).
#
#   SERVICE=checkout CLUSTER=prod TASK=checkout:42 DEPLOYTRAIL_PERMIT=… ./ecs_deploy.sh
#
# Settings: DEPLOYTRAIL_ENVIRONMENT, DEPLOYTRAIL_REGION, DEPLOYTRAIL_PERMIT_KEYS, DEPLOYTRAIL_PERMIT_ISSUER; DEPLOYTRAIL_URL to
# report. Exit code 77: the permit does not allow it; 69: nobody can tell; nothing was deployed then.
set -eu
: "${SERVICE:?which ECS service}" "${CLUSTER:?which ECS cluster}" "${TASK:?which task definition, family:revision}"
# The first container is the service's own. What runs is what the task definition names, so its digest is what is asked about.
image=$(aws ecs describe-task-definition --task-definition "$TASK" \
  --query 'taskDefinition.containerDefinitions[0].image' --output text)
digest=${image#*@}

deploytrail verify-permit --service "$SERVICE" --artifact-digest "$digest"

exec deploytrail run --service "$SERVICE" --artifact-digest "$digest" --artifact-uri "$image" --version "$TASK" -- sh -c '
  aws ecs update-service --cluster "$1" --service "$2" --task-definition "$3" >/dev/null &&
  aws ecs wait services-stable --cluster "$1" --services "$2"' deploy "$CLUSTER" "$SERVICE" "$TASK"
