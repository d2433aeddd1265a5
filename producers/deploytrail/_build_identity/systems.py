"""The CI systems that are known: which of their variables hold what.

Sources are the vendors' pages named at each. Where a system says too little for a field, the field
stays empty: nothing is guessed. `tag` and `branch` become the event's ref. The commit's author is
nobody's deployer: only who started the build is. Tekton exports nothing to its steps; its users set
DEPLOYTRAIL_* from `$(context.…)`.
"""

from __future__ import annotations

from deploytrail._build_identity import peculiar
from deploytrail._build_identity.system import System

_GITHUB = {
    "build_id": ("GITHUB_RUN_ID",),
    "build_number": ("GITHUB_RUN_NUMBER",),
    "build_url": (
        "{GITHUB_SERVER_URL}/{GITHUB_REPOSITORY}/actions/runs/{GITHUB_RUN_ID}/attempts/{GITHUB_RUN_ATTEMPT}",
        "{GITHUB_SERVER_URL}/{GITHUB_REPOSITORY}/actions/runs/{GITHUB_RUN_ID}",
        "https://github.com/{GITHUB_REPOSITORY}/actions/runs/{GITHUB_RUN_ID}/attempts/{GITHUB_RUN_ATTEMPT}",
        "https://github.com/{GITHUB_REPOSITORY}/actions/runs/{GITHUB_RUN_ID}",
    ),
    "commit_sha": ("GITHUB_SHA",),
    "repository": ("{GITHUB_SERVER_URL}/{GITHUB_REPOSITORY}.git", "https://github.com/{GITHUB_REPOSITORY}.git"),
    "branch": ("GITHUB_HEAD_REF", "GITHUB_REF"),
    "pipeline": ("GITHUB_WORKFLOW",),
    "job": ("GITHUB_JOB",),
    "deployer": ("GITHUB_TRIGGERING_ACTOR", "GITHUB_ACTOR"),
}
_SCHEDULED = ("GITHUB_EVENT_NAME=schedule",)
# Gitea's runs have no attempts, and are addressed by their number.
_GITEA = _GITHUB | {"build_url": ("{GITHUB_SERVER_URL}/{GITHUB_REPOSITORY}/actions/runs/{GITHUB_RUN_NUMBER}",)}

_DRONE = {
    "build_id": ("{DRONE_REPO}/{DRONE_BUILD_NUMBER}",),
    "build_number": ("DRONE_BUILD_NUMBER",),
    "build_url": ("DRONE_BUILD_LINK",),
    "commit_sha": ("DRONE_COMMIT_SHA",),
    "repository": ("DRONE_GIT_HTTP_URL",),
    "tag": ("DRONE_TAG",),
    "branch": ("DRONE_SOURCE_BRANCH", "DRONE_BRANCH", "DRONE_COMMIT_BRANCH"),
    "pipeline": ("DRONE_REPO",),
    "job": ("DRONE_STEP_NAME",),
    "stage": ("DRONE_STAGE_NAME",),
    "deployer": ("DRONE_BUILD_TRIGGER",),
}
_HOOK_OR_CRON = ("DRONE_BUILD_TRIGGER=@*",)

# Asked in this order: those that also set another's variables come before that one.
SYSTEMS: tuple[System, ...] = (
    # https://docs.gitea.com/usage/actions/comparison, https://forgejo.org/docs/latest/user/actions/
    System("forgejo_actions", ("FORGEJO_ACTIONS",), _GITEA, _SCHEDULED),
    System("gitea_actions", ("GITEA_ACTIONS",), _GITEA, _SCHEDULED),
    # https://docs.github.com/actions/reference/workflows-and-actions/variables
    System("github_actions", ("GITHUB_ACTIONS",), _GITHUB, _SCHEDULED),
    System("github_actions", ("GITHUB_ACTION",), _GITHUB, _SCHEDULED),
    # https://docs.gitlab.com/ci/variables/predefined_variables/
    System(
        "gitlab_ci",
        ("GITLAB_CI",),
        {
            "build_id": ("CI_PIPELINE_ID",),
            "build_number": ("CI_PIPELINE_IID",),
            "build_url": ("CI_PIPELINE_URL",),
            "commit_sha": ("CI_COMMIT_SHA",),
            "committed_at": ("CI_COMMIT_TIMESTAMP",),
            "repository": ("CI_REPOSITORY_URL", "CI_PROJECT_URL"),
            "tag": ("CI_COMMIT_TAG",),
            "branch": ("CI_COMMIT_REF_NAME",),
            "pipeline": ("CI_PROJECT_PATH",),
            "job": ("CI_JOB_NAME",),
            "stage": ("CI_JOB_STAGE",),
            "deployer": ("GITLAB_USER_LOGIN",),
        },
        ("CI_PIPELINE_SOURCE=schedule",),
        ("CI_ENVIRONMENT_NAME", "CI_ENVIRONMENT_TIER"),
    ),
    # https://www.jenkins.io/doc/book/pipeline/jenkinsfile/#using-environment-variables; BUILD_USER_ID comes
    # from the plugin build-user-vars.
    System(
        "jenkins",
        ("JENKINS_URL",),
        {
            "build_id": ("BUILD_TAG",),
            "build_number": ("BUILD_NUMBER",),
            "build_url": ("BUILD_URL",),
            "commit_sha": ("GIT_COMMIT",),
            "repository": ("GIT_URL", "GIT_URL_1"),
            "branch": ("GIT_BRANCH",),
            "pipeline": ("JOB_NAME",),
            "job": ("JOB_BASE_NAME",),
            "stage": ("STAGE_NAME",),
            "deployer": ("BUILD_USER_ID", "CHANGE_AUTHOR"),
        },
        finish=peculiar.jenkins,
    ),
    # https://learn.microsoft.com/azure/devops/pipelines/build/variables; RELEASE_* are those of classic releases:
    # https://learn.microsoft.com/azure/devops/pipelines/release/variables
    *(
        System(
            "azure_pipelines",
            (mark,),
            {
                "build_id": ("BUILD_BUILDID", "RELEASE_RELEASEID"),
                "build_number": ("BUILD_BUILDNUMBER", "BUILD_BUILDID", "RELEASE_RELEASENAME"),
                "build_url": (
                    "RELEASE_RELEASEWEBURL",
                    "{SYSTEM_TEAMFOUNDATIONSERVERURI}/{SYSTEM_TEAMPROJECTID}/_build/results?buildId={BUILD_BUILDID}",
                    "{SYSTEM_COLLECTIONURI}/{SYSTEM_TEAMPROJECTID}/_build/results?buildId={BUILD_BUILDID}",
                ),
                "commit_sha": ("SYSTEM_PULLREQUEST_SOURCECOMMITID", "BUILD_SOURCEVERSION"),
                "repository": ("SYSTEM_PULLREQUEST_SOURCEREPOSITORYURI", "BUILD_REPOSITORY_URI"),
                "branch": ("SYSTEM_PULLREQUEST_SOURCEBRANCH", "BUILD_SOURCEBRANCH"),
                "pipeline": ("RELEASE_DEFINITIONNAME", "BUILD_DEFINITIONNAME"),
                "job": ("SYSTEM_JOBDISPLAYNAME", "SYSTEM_JOBNAME"),
                "stage": ("SYSTEM_STAGEDISPLAYNAME", "SYSTEM_STAGENAME", "RELEASE_ENVIRONMENTNAME"),
                "deployer": ("RELEASE_DEPLOYMENT_REQUESTEDFOR", "BUILD_REQUESTEDFOR"),
            },
            ("BUILD_REASON=schedule",),
            ("RELEASE_ENVIRONMENTNAME", "ENVIRONMENT_NAME"),
        )
        for mark in ("TF_BUILD", "RELEASE_RELEASEID")
    ),
    # https://support.atlassian.com/bitbucket-cloud/docs/variables-and-secrets/
    System(
        "bitbucket_pipelines",
        ("BITBUCKET_BUILD_NUMBER",),
        {
            "build_id": ("BITBUCKET_PIPELINE_UUID",),
            "build_number": ("BITBUCKET_BUILD_NUMBER",),
            "build_url": (
                "https://bitbucket.org/{BITBUCKET_REPO_FULL_NAME}/addon/pipelines/home#!/results/{BITBUCKET_BUILD_NUMBER}",
            ),
            "commit_sha": ("BITBUCKET_COMMIT",),
            "repository": ("BITBUCKET_GIT_SSH_ORIGIN", "BITBUCKET_GIT_HTTP_ORIGIN"),
            "tag": ("BITBUCKET_TAG",),
            "branch": ("BITBUCKET_BRANCH",),
            "pipeline": ("BITBUCKET_REPO_FULL_NAME",),
            "deployer": ("BITBUCKET_STEP_TRIGGERER_UUID",),
        },
        target=("BITBUCKET_DEPLOYMENT_ENVIRONMENT",),
        finish=peculiar.bitbucket,
    ),
    # https://circleci.com/docs/reference/variables/: CIRCLE_BUILD_NUM counts jobs, of which one workflow has many.
    System(
        "circleci",
        ("CIRCLECI",),
        {
            "build_id": ("CIRCLE_WORKFLOW_ID",),
            "build_number": ("CIRCLE_BUILD_NUM",),
            "build_url": (
                "https://app.circleci.com/pipelines/workflows/{CIRCLE_WORKFLOW_ID}",
                "CIRCLE_BUILD_URL",
            ),
            "commit_sha": ("CIRCLE_SHA1",),
            "repository": ("CIRCLE_REPOSITORY_URL",),
            "tag": ("CIRCLE_TAG",),
            "branch": ("CIRCLE_BRANCH",),
            "pipeline": ("CIRCLE_PROJECT_REPONAME",),
            "job": ("CIRCLE_JOB",),
            "deployer": ("CIRCLE_USERNAME",),
        },
    ),
    # https://buildkite.com/docs/pipelines/configure/environment-variables: who unblocks a build lets it deploy.
    System(
        "buildkite",
        ("BUILDKITE",),
        {
            "build_id": ("BUILDKITE_BUILD_ID",),
            "build_number": ("BUILDKITE_BUILD_NUMBER",),
            "build_url": ("BUILDKITE_BUILD_URL",),
            "commit_sha": ("BUILDKITE_COMMIT",),
            "repository": ("BUILDKITE_REPO",),
            "tag": ("BUILDKITE_TAG",),
            "branch": ("BUILDKITE_BRANCH",),
            "pipeline": ("BUILDKITE_PIPELINE_SLUG",),
            "job": ("BUILDKITE_LABEL",),
            "stage": ("BUILDKITE_GROUP_LABEL",),
            "deployer": ("BUILDKITE_UNBLOCKER", "BUILDKITE_BUILD_CREATOR"),
        },
        ("BUILDKITE_SOURCE=schedule",),
    ),
    # https://docs.travis-ci.com/user/environment-variables/#default-environment-variables
    System(
        "travis_ci",
        ("TRAVIS",),
        {
            "build_id": ("TRAVIS_BUILD_ID",),
            "build_number": ("TRAVIS_BUILD_NUMBER",),
            "build_url": ("TRAVIS_BUILD_WEB_URL", "TRAVIS_JOB_WEB_URL"),
            "commit_sha": ("TRAVIS_COMMIT",),
            "repository": ("https://github.com/{TRAVIS_REPO_SLUG}.git",),
            "tag": ("TRAVIS_TAG",),
            "branch": ("TRAVIS_PULL_REQUEST_BRANCH", "TRAVIS_BRANCH"),
            "pipeline": ("TRAVIS_REPO_SLUG",),
            "job": ("TRAVIS_JOB_NAME",),
            "stage": ("TRAVIS_BUILD_STAGE_NAME",),
        },
    ),
    # https://www.appveyor.com/docs/environment-variables/
    System(
        "appveyor",
        ("APPVEYOR",),
        {
            "build_id": ("APPVEYOR_BUILD_ID",),
            "build_number": ("APPVEYOR_BUILD_NUMBER",),
            "build_url": (
                "{APPVEYOR_URL}/project/{APPVEYOR_ACCOUNT_NAME}/{APPVEYOR_PROJECT_SLUG}/builds/{APPVEYOR_BUILD_ID}",
                "https://ci.appveyor.com/project/{APPVEYOR_REPO_NAME}/builds/{APPVEYOR_BUILD_ID}",
            ),
            "commit_sha": ("APPVEYOR_REPO_COMMIT",),
            "committed_at": ("APPVEYOR_REPO_COMMIT_TIMESTAMP",),
            "tag": ("APPVEYOR_REPO_TAG_NAME",),
            "branch": ("APPVEYOR_PULL_REQUEST_HEAD_REPO_BRANCH", "APPVEYOR_REPO_BRANCH"),
            "pipeline": ("APPVEYOR_REPO_NAME",),
            "job": ("APPVEYOR_JOB_NAME",),
        },
        finish=peculiar.appveyor,
    ),
    # https://docs.aws.amazon.com/codebuild/latest/userguide/build-env-ref-env-vars.html; DD_PIPELINE_EXECUTION_ID is
    # what users of Datadog hand over from CodePipeline, which exports no such thing.
    System(
        "aws_codepipeline",
        ("CODEBUILD_INITIATOR=codepipeline/*",),
        {
            "build_id": ("DD_PIPELINE_EXECUTION_ID", "CODEBUILD_BUILD_ID", "CODEBUILD_BUILD_ARN"),
            "build_number": ("CODEBUILD_BUILD_NUMBER",),
            "build_url": ("CODEBUILD_PUBLIC_BUILD_URL", "CODEBUILD_BUILD_URL"),
            "commit_sha": ("CODEBUILD_RESOLVED_SOURCE_VERSION",),
            "repository": ("CODEBUILD_SOURCE_REPO_URL",),
            "pipeline": ("CODEBUILD_INITIATOR",),
        },
        finish=peculiar.codepipeline,
    ),
    System(
        "aws_codebuild",
        ("CODEBUILD_BUILD_ID",),
        {
            "build_id": ("CODEBUILD_BUILD_ID",),
            "build_number": ("CODEBUILD_BUILD_NUMBER",),
            "build_url": ("CODEBUILD_PUBLIC_BUILD_URL", "CODEBUILD_BUILD_URL"),
            "commit_sha": ("CODEBUILD_RESOLVED_SOURCE_VERSION",),
            "repository": ("CODEBUILD_SOURCE_REPO_URL",),
            "branch": ("CODEBUILD_WEBHOOK_HEAD_REF",),
            "deployer": ("CODEBUILD_INITIATOR",),
        },
        ("CODEBUILD_INITIATOR=CodeBuild-Jenkins-Plugin", "CODEBUILD_INITIATOR=rule/*"),
        finish=peculiar.codebuild,
    ),
    # https://docs.bitrise.io/en/bitrise-ci/references/available-environment-variables
    System(
        "bitrise",
        ("BITRISE_BUILD_SLUG",),
        {
            "build_id": ("BITRISE_BUILD_SLUG",),
            "build_number": ("BITRISE_BUILD_NUMBER",),
            "build_url": ("BITRISE_BUILD_URL",),
            "commit_sha": ("BITRISE_GIT_COMMIT", "GIT_CLONE_COMMIT_HASH"),
            "repository": ("GIT_REPOSITORY_URL",),
            "tag": ("BITRISE_GIT_TAG",),
            "branch": ("BITRISE_GIT_BRANCH",),
            "pipeline": ("BITRISE_TRIGGERED_WORKFLOW_ID",),
        },
    ),
    # https://buddy.works/docs/pipelines/environment-variables
    System(
        "buddy",
        ("BUDDY",),
        {
            "build_id": ("{BUDDY_PIPELINE_ID}/{BUDDY_EXECUTION_ID}",),
            "build_number": ("BUDDY_EXECUTION_ID",),
            "build_url": ("BUDDY_EXECUTION_URL",),
            "commit_sha": ("BUDDY_EXECUTION_REVISION",),
            "repository": ("BUDDY_SCM_URL",),
            "tag": ("BUDDY_EXECUTION_TAG",),
            "branch": ("BUDDY_EXECUTION_BRANCH",),
            "pipeline": ("BUDDY_PIPELINE_NAME",),
        },
    ),
    # https://codefresh.io/docs/docs/pipelines/variables/
    System(
        "codefresh",
        ("CF_BUILD_ID",),
        {
            "build_id": ("CF_BUILD_ID",),
            "build_url": ("CF_BUILD_URL",),
            "commit_sha": ("CF_REVISION",),
            "tag": ("CF_RELEASE_TAG",),
            "branch": ("CF_BRANCH",),
            "pipeline": ("CF_PIPELINE_NAME",),
            "job": ("CF_STEP_NAME",),
            "deployer": ("CF_BUILD_INITIATOR",),
        },
    ),
    # https://developer.harness.io/docs/continuous-integration/troubleshoot-ci/ci-env-var: it sets Drone's too.
    System(
        "harness",
        ("HARNESS_BUILD_ID",),
        _DRONE
        | {
            "build_id": ("HARNESS_EXECUTION_ID", "{HARNESS_PIPELINE_ID}/{HARNESS_BUILD_ID}"),
            "build_number": ("HARNESS_BUILD_ID",),
            "build_url": ("CI_BUILD_LINK", "DRONE_BUILD_LINK"),
            "repository": ("DRONE_GIT_HTTP_URL", "DRONE_REMOTE_URL", "CI_REPO_REMOTE"),
            "pipeline": ("HARNESS_PIPELINE_ID",),
            "stage": ("HARNESS_STAGE_ID", "DRONE_STAGE_NAME"),
        },
        _HOOK_OR_CRON,
        ("DRONE_DEPLOY_TO",),
    ),
    # https://woodpecker-ci.org/docs/usage/environment
    System(
        "woodpecker",
        ("CI=woodpecker",),
        {
            "build_id": ("{CI_REPO}/{CI_PIPELINE_NUMBER}",),
            "build_number": ("CI_PIPELINE_NUMBER",),
            "build_url": ("CI_PIPELINE_URL",),
            "commit_sha": ("CI_COMMIT_SHA",),
            "repository": ("CI_REPO_CLONE_URL", "CI_REPO_URL"),
            "tag": ("CI_COMMIT_TAG",),
            "branch": ("CI_COMMIT_SOURCE_BRANCH", "CI_COMMIT_BRANCH"),
            "pipeline": ("CI_REPO",),
            "job": ("CI_STEP_NAME",),
            "stage": ("CI_WORKFLOW_NAME",),
            "deployer": ("CI_PIPELINE_AUTHOR",),
        },
        ("CI_PIPELINE_EVENT=cron",),
        ("CI_PIPELINE_DEPLOY_TARGET",),
    ),
    # https://docs.drone.io/pipeline/environment/reference/
    System("drone", ("DRONE",), _DRONE, _HOOK_OR_CRON, ("DRONE_DEPLOY_TO",)),
    # https://docs.semaphoreci.com/reference/env-vars: who promotes a pipeline lets it deploy.
    System(
        "semaphore",
        ("SEMAPHORE",),
        {
            "build_id": ("SEMAPHORE_WORKFLOW_ID",),
            "build_number": ("SEMAPHORE_WORKFLOW_NUMBER",),
            "build_url": ("{SEMAPHORE_ORGANIZATION_URL}/workflows/{SEMAPHORE_WORKFLOW_ID}",),
            "commit_sha": ("SEMAPHORE_GIT_PR_SHA", "SEMAPHORE_GIT_SHA"),
            "repository": ("SEMAPHORE_GIT_URL",),
            "tag": ("SEMAPHORE_GIT_TAG_NAME",),
            "branch": ("SEMAPHORE_GIT_WORKING_BRANCH", "SEMAPHORE_GIT_BRANCH"),
            "pipeline": ("SEMAPHORE_PIPELINE_NAME", "SEMAPHORE_PROJECT_NAME"),
            "job": ("SEMAPHORE_JOB_NAME",),
            "stage": ("SEMAPHORE_BLOCK_NAME",),
            "deployer": ("SEMAPHORE_PIPELINE_PROMOTED_BY", "SEMAPHORE_WORKFLOW_TRIGGERED_BY"),
        },
        ("SEMAPHORE_PIPELINE_PROMOTED_BY=auto-promotion", "SEMAPHORE_WORKFLOW_TRIGGERED_BY_SCHEDULE=true"),
    ),
    # https://docs.screwdriver.cd/user-guide/environment-variables
    System(
        "screwdriver",
        ("SCREWDRIVER",),
        {
            "build_id": ("SD_BUILD_ID",),
            "build_url": ("SD_UI_BUILD_URL",),
            "commit_sha": ("SD_BUILD_SHA",),
            "repository": ("SCM_URL",),
            "branch": ("PR_BRANCH_NAME", "GIT_BRANCH"),
            "pipeline": ("SD_PIPELINE_NAME",),
        },
    ),
    # https://docs.gocd.org/current/faq/environment_variables.html: GO_ENVIRONMENT_NAME is where its agents belong.
    System(
        "gocd",
        ("GO_PIPELINE_NAME", "GO_PIPELINE_COUNTER"),
        {
            "build_id": ("{GO_PIPELINE_NAME}/{GO_PIPELINE_COUNTER}",),
            "build_number": ("GO_PIPELINE_LABEL", "GO_PIPELINE_COUNTER"),
            "build_url": (
                "{GO_SERVER_URL}/pipelines/{GO_PIPELINE_NAME}/{GO_PIPELINE_COUNTER}/{GO_STAGE_NAME}/{GO_STAGE_COUNTER}",
            ),
            "commit_sha": ("GO_REVISION",),
            "pipeline": ("GO_PIPELINE_NAME",),
            "job": ("GO_JOB_NAME",),
            "stage": ("GO_STAGE_NAME",),
            "deployer": ("GO_TRIGGER_USER",),
        },
        ("GO_TRIGGER_USER=changes", "GO_TRIGGER_USER=timer"),
        ("GO_ENVIRONMENT_NAME",),
    ),
    # https://confluence.atlassian.com/bamboo/bamboo-variables-289277087.html; dots become underscores in scripts.
    System(
        "bamboo",
        ("bamboo_agentId",),
        {
            "build_id": ("bamboo_buildResultKey", "bamboo_deploy_version"),
            "build_number": ("bamboo_buildNumber", "bamboo_deploy_release"),
            "build_url": ("bamboo_buildResultsUrl", "bamboo_resultsUrl"),
            "commit_sha": ("bamboo_planRepository_revision",),
            "repository": ("bamboo_planRepository_repositoryUrl",),
            "branch": ("bamboo_planRepository_branchName",),
            "pipeline": ("bamboo_deploy_project", "bamboo_planName"),
            "job": ("bamboo_shortJobName",),
            "deployer": ("bamboo_ManualBuildTriggerReason_userName",),
        },
        target=("bamboo_deploy_environment",),
    ),
    # https://www.jetbrains.com/help/teamcity/predefined-build-parameters.html
    System(
        "teamcity",
        ("TEAMCITY_VERSION",),
        {
            "build_number": ("BUILD_NUMBER",),
            "build_url": ("BUILD_URL",),
            "commit_sha": ("BUILD_VCS_NUMBER",),
            "pipeline": ("TEAMCITY_PROJECT_NAME",),
            "job": ("TEAMCITY_BUILDCONF_NAME",),
        },
    ),
    # https://argo-workflows.readthedocs.io/: what its executor sets in each container.
    System(
        "argo_workflows",
        ("ARGO_WORKFLOW_NAME",),
        {
            "build_id": ("ARGO_WORKFLOW_UID", "ARGO_WORKFLOW_NAME"),
            "job": ("ARGO_NODE_ID",),
        },
    ),
    # https://cloud.google.com/build/docs/configuring-builds/substitute-variable-values, with
    # `automapSubstitutions: true`: without it nothing is exported.
    System(
        "google_cloud_build",
        ("BUILD_ID", "PROJECT_ID", "PROJECT_NUMBER"),
        {
            "build_id": ("BUILD_ID",),
            "build_url": (
                "https://console.cloud.google.com/cloud-build/builds;region={LOCATION}/{BUILD_ID}?project={PROJECT_ID}",
            ),
            "commit_sha": ("COMMIT_SHA", "REVISION_ID"),
            "repository": ("REPO_FULL_NAME", "REPO_NAME"),
            "tag": ("TAG_NAME",),
            "branch": ("BRANCH_NAME", "REF_NAME"),
            "pipeline": ("TRIGGER_NAME",),
        },
    ),
)
