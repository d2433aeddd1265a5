"""Who builds, what, and where to: fields of an event from the environment of a CI system.

Pure: an environment in, a dict of DeploymentEvent fields out. Which variables hold what is a
table (`systems`); what somebody set on purpose (`overrides`) wins over it. `CI=false` switches
the table off.
"""

from __future__ import annotations

from deploytrail_schemas.redaction import without_credentials as without_credentials

from deploytrail._build_identity.deploy_target import agree as agree
from deploytrail._build_identity.overrides import overrides
from deploytrail._build_identity.systems import SYSTEMS

TYPE_CHECKING = False  # what typing says, without the import
if TYPE_CHECKING:
    from collections.abc import Mapping

    from deploytrail._build_identity.system import System

    Environment = Mapping[str, str]
    Identity = dict[str, str]

_OFF = {"false", "0", "no", "off"}


def read(environ: Environment) -> Identity:
    """The fields that the CI system of this environment tells, and those that somebody set; empty outside of one.

    `ref` is the tag where one is built; the branch is then beside it as `branch`, which no field holds. Neither does
    one hold `committed_at`, when the commit was made. Both become tags of the event.
    """
    system = _system(environ)
    found = system.read(environ) if system else {}
    said = overrides(environ)
    if "deployer" in said:
        found.pop("deployer_type", None)  # was said of somebody else
    if said.get("commit_sha", found.get("commit_sha")) != found.get("commit_sha"):
        found.pop("committed_at", None)  # was said of another commit
    found |= said
    tag, branch = found.pop("tag", ""), found.pop("branch", "")
    if "ref" not in found and (ref := tag or branch):
        found["ref"] = ref
        if branch and branch != ref:
            found["branch"] = branch
    return found


def targets(environ: Environment) -> tuple[str, ...]:
    """The environment that the CI system deploys to, by its name and what else it calls it; empty where none says."""
    system = _system(environ)
    return system.targets(environ) if system else ()


def _system(environ: Environment) -> System | None:
    if environ.get("CI", "").lower() in _OFF:
        return None
    return next((system for system in SYSTEMS if system.is_here(environ)), None)
