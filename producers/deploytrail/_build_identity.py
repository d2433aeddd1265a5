"""Who builds: fields of an event from the environment of GitHub Actions, GitLab CI and Jenkins.

Pure: an environment in, a dict of DeploymentEvent fields out. Names of the variables:
https://docs.github.com/actions/reference/workflows-and-actions/variables,
https://docs.gitlab.com/ci/variables/predefined_variables/,
https://www.jenkins.io/doc/book/pipeline/jenkinsfile/#using-environment-variables.
"""

from __future__ import annotations

from deploytrail_schemas.redaction import without_credentials as without_credentials

TYPE_CHECKING = False  # what typing says, without the import
if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    Environment = Mapping[str, str]
    Identity = dict[str, str]


def read(environ: Environment) -> Identity:
    """The fields that the CI system of this environment tells; empty outside of one."""
    for marker, reader in _SYSTEMS:
        if environ.get(marker):
            found = reader(environ)
            return {name: str(text) for name, text in found.items() if text}
    return {}


def _github(environ: Environment) -> Identity:
    get = environ.get
    server = without_credentials(get("GITHUB_SERVER_URL") or "https://github.com").rstrip("/")
    name, run, attempt = get("GITHUB_REPOSITORY", ""), get("GITHUB_RUN_ID", ""), get("GITHUB_RUN_ATTEMPT", "")
    url = f"{server}/{name}/actions/runs/{run}" if name and run else ""
    actor = get("GITHUB_TRIGGERING_ACTOR") or get("GITHUB_ACTOR", "")
    return {
        "build_system": "github_actions",
        "build_id": run,
        "build_number": get("GITHUB_RUN_NUMBER", ""),
        "build_url": f"{url}/attempts/{attempt}" if url and attempt else url,
        "commit_sha": get("GITHUB_SHA", ""),
        "repository": f"{server}/{name}.git" if name else "",
        "ref": _ref(get("GITHUB_HEAD_REF") or get("GITHUB_REF", "")),
        "pipeline": get("GITHUB_WORKFLOW", ""),
        "job": get("GITHUB_JOB", ""),
        **_who(actor, automatic=get("GITHUB_EVENT_NAME") == "schedule"),
    }


def _gitlab(environ: Environment) -> Identity:
    get = environ.get
    return {
        "build_system": "gitlab_ci",
        "build_id": get("CI_PIPELINE_ID", ""),
        "build_number": get("CI_PIPELINE_IID", ""),
        "build_url": without_credentials(get("CI_PIPELINE_URL", "")),
        "commit_sha": get("CI_COMMIT_SHA", ""),
        "repository": without_credentials(get("CI_REPOSITORY_URL") or get("CI_PROJECT_URL", "")),
        "ref": _ref(get("CI_COMMIT_TAG") or get("CI_COMMIT_REF_NAME", "")),
        "pipeline": get("CI_PROJECT_PATH", ""),
        "job": get("CI_JOB_NAME", ""),
        "stage": get("CI_JOB_STAGE", ""),
        **_who(get("GITLAB_USER_LOGIN", ""), automatic=get("CI_PIPELINE_SOURCE") == "schedule"),
    }


def _jenkins(environ: Environment) -> Identity:
    get = environ.get
    branch = get("GIT_BRANCH", "")
    return {
        "build_system": "jenkins",
        "build_id": get("BUILD_TAG", ""),
        "build_number": get("BUILD_NUMBER", ""),
        "build_url": without_credentials(get("BUILD_URL", "")),
        "commit_sha": get("GIT_COMMIT", ""),
        "repository": without_credentials(get("GIT_URL") or get("GIT_URL_1", "")),
        "ref": _ref(branch),
        "pipeline": _job_name(get("JOB_NAME", ""), branch),
        "job": get("JOB_BASE_NAME", ""),
        "stage": get("STAGE_NAME", ""),
        # BUILD_USER_ID comes from the plugin build-user-vars.
        **_who(get("BUILD_USER_ID") or get("CHANGE_AUTHOR", ""), automatic=False),
    }


_SYSTEMS: tuple[tuple[str, Callable[[Environment], Identity]], ...] = (
    ("GITHUB_ACTIONS", _github),
    ("GITHUB_ACTION", _github),
    ("GITLAB_CI", _gitlab),
    ("JENKINS_URL", _jenkins),
)


def _ref(ref: str) -> str:
    """The branch's or tag's own name, without where git keeps it."""
    ref = ref.removeprefix("refs/").removeprefix("heads/")
    return ref.removeprefix("origin/").removeprefix("tags/")


def _job_name(name: str, branch: str) -> str:
    """Jenkins' job without the branch that a multibranch job ends with, and without matrix axes (a=1,b=2)."""
    branch = _ref(branch)
    for ending in {f"/{branch}", f"/{branch.replace('/', '%2F')}"}:
        if branch:
            name = name.removesuffix(ending)
    return "/".join(part for part in name.split("/") if part and "=" not in part)


def _who(name: str, *, automatic: bool) -> Identity:
    if not name:
        return {}
    bot = automatic or name.endswith("[bot]")
    return {"deployer": name, "deployer_type": "automation" if bot else "person"}
