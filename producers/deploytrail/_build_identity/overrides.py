"""What somebody set on purpose, and so wins over what the CI system says.

`DEPLOYTRAIL_` and the field's name in capitals: DEPLOYTRAIL_COMMIT_SHA, DEPLOYTRAIL_REF, …
Behind them the variables `DD_GIT_*` of Datadog's CI tools, which say the same and nothing else:
whoever had to set them where a CI system tells too little (AWS CodePipeline, say) has it read here
too. https://docs.datadoghq.com/continuous_integration/tests/containers/
"""

from __future__ import annotations

from deploytrail_schemas.redaction import without_credentials

from deploytrail._build_identity.system import URLS, bare

TYPE_CHECKING = False  # what typing says, without the import
if TYPE_CHECKING:
    from collections.abc import Mapping

FIELDS = (
    "build_system",
    "build_id",
    "build_number",
    "build_url",
    "commit_sha",
    "committed_at",  # no field, but a tag of the event: lead times are counted from there
    "repository",
    "ref",
    "pipeline",
    "job",
    "stage",
    "deployer",
    "deployer_type",
)
# The first that is set is taken.
_PLACES: dict[str, tuple[str, ...]] = {field: (f"DEPLOYTRAIL_{field.upper()}",) for field in FIELDS}
_PLACES["commit_sha"] += ("DD_GIT_COMMIT_SHA",)
_PLACES["committed_at"] += ("DD_GIT_COMMIT_COMMITTER_DATE",)
_PLACES["repository"] += ("DD_GIT_REPOSITORY_URL",)
_PLACES |= {"tag": ("DD_GIT_TAG",), "branch": ("DD_GIT_BRANCH",)}
_REFS = ("ref", "tag", "branch")


def overrides(environ: Mapping[str, str]) -> dict[str, str]:
    """The fields that somebody set, and `tag` and `branch`."""
    found = {}
    for field, names in _PLACES.items():
        if text := next(filter(None, (environ.get(name, "").strip() for name in names)), ""):
            text = without_credentials(text) if field in URLS else text
            found[field] = bare(text) if field in _REFS else text
    return found
