"""What a few CI systems say in a way of their own: text with more in it than the field wants."""

from __future__ import annotations

from deploytrail._build_identity.system import bare

TYPE_CHECKING = False  # what typing says, without the import
if TYPE_CHECKING:
    from collections.abc import Mapping

    Environment = Mapping[str, str]
    Identity = dict[str, str]


def jenkins(_: Environment, found: Identity) -> Identity:
    """JOB_NAME without the branch that a multibranch job ends with, and without matrix axes (a=1,b=2)."""
    name, branch = found.get("pipeline", ""), bare(found.get("branch", ""))
    if branch:
        for ending in {f"/{branch}", f"/{branch.replace('/', '%2F')}"}:
            name = name.removesuffix(ending)
    return found | {"pipeline": "/".join(part for part in name.split("/") if part and "=" not in part)}


def bitbucket(_: Environment, found: Identity) -> Identity:
    """UUIDs without their braces."""
    return found | {name: found[name].strip("{}") for name in ("build_id", "deployer") if name in found}


def appveyor(environ: Environment, found: Identity) -> Identity:
    """The provider says where the repository is, where it has one address for everybody."""
    hosts = {"github": "github.com", "bitbucket": "bitbucket.org"}
    host, name = hosts.get(environ.get("APPVEYOR_REPO_PROVIDER", "").lower()), environ.get("APPVEYOR_REPO_NAME")
    return found | {"repository": f"https://{host}/{name}.git"} if host and name else found


def codepipeline(_: Environment, found: Identity) -> Identity:
    """Who began the build is the pipeline: codepipeline/NAME."""
    return _commit_of_git(found | {"pipeline": found.get("pipeline", "").partition("/")[2]})


def codebuild(environ: Environment, found: Identity) -> Identity:
    """CODEBUILD_BUILD_ID is PROJECT:ID."""
    return _commit_of_git(found | {"pipeline": environ.get("CODEBUILD_BUILD_ID", "").partition(":")[0]})


def _commit_of_git(found: Identity) -> Identity:
    """A source that is no repository (an S3 object, say) has a version that is no commit."""
    commit = found.get("commit_sha", "")
    if len(commit) == 40 and not commit.strip("0123456789abcdef"):
        return found
    return {name: text for name, text in found.items() if name != "commit_sha"}
