"""The READMEs say what is there: links, commands, settings, CI systems and sources of webhooks."""

from __future__ import annotations

import contextlib
import io
import itertools
import re
from functools import cache
from importlib.metadata import entry_points
from pathlib import Path

import pytest
from deploytrail import adapters, command
from deploytrail._build_identity.systems import SYSTEMS
from deploytrail_schemas.settings import describe

ROOT = Path(__file__).parents[3]
# Folders that hold what is made on a machine, not what the project says.
MADE = {".venv", ".git", "node_modules", ".deploytrail", ".pytest_cache", ".ruff_cache", ".mypy_cache"}
DOCUMENTS = sorted(path for path in ROOT.rglob("*.md") if not MADE & set(path.relative_to(ROOT).parts))
# Set by `run` for the command that it runs; nobody configures it.
SET_BY_US = {"DEPLOYTRAIL_DEPLOYMENT_ID"}
# Words of CI systems in the README that the table of systems writes in another way.
WRITTEN = {
    "AWS CodeBuild and CodePipeline": ("aws_codebuild", "aws_codepipeline"),
    "Forgejo and Gitea Actions": ("forgejo_actions", "gitea_actions"),
    "Bitbucket": ("bitbucket_pipelines",),
}

_LINK = re.compile(r"\[[^\]]*\]\(([^)\s]+)\)")
_FENCE = re.compile(r"^```.*?^```", re.MULTILINE | re.DOTALL)
_SETTING = re.compile(r"DEPLOYTRAIL_[A-Z]+(?:_[A-Z]+)*")


@cache
def text_of(path: Path) -> str:
    return path.read_text("utf-8")


def links_of(text: str) -> list[str]:
    """Targets of the links of a document; what stands in code is none."""
    return _LINK.findall(re.sub(r"`[^`]*`", "", _FENCE.sub("", text)))


def anchors_of(text: str) -> set[str]:
    """Anchors of the headings, as GitHub makes them."""
    headings = re.findall(r"^#+ (.+)$", _FENCE.sub("", text), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


def broken_links(path: Path, text: str) -> list[str]:
    """Relative links of a document whose file or heading is not there."""
    broken = []
    for link in links_of(text):
        name, _, anchor = link.partition("#")
        if "://" in link or link.startswith("mailto:"):
            continue
        target = (path.parent / name).resolve() if name else path
        if not target.exists() or (anchor and anchor not in anchors_of(text_of(target) if name else text)):
            broken.append(link)
    return broken


def commands_in(text: str) -> set[str]:
    """First words of every `deploytrail WORD` in code."""
    return set(re.findall(r"(?<![\w./-])deploytrail ([a-z][a-z-]*)(?![\w./=:-])", "\n".join(code_of(text))))


def code_of(text: str) -> list[str]:
    return [*_FENCE.findall(text), *re.findall(r"`([^`\n]+)`", _FENCE.sub("", text))]


def words() -> set[str]:
    return {*command.OWN, *(entry.name for entry in entry_points(group=command.GROUP))}


@pytest.mark.parametrize("path", DOCUMENTS, ids=lambda path: str(path.relative_to(ROOT)))
def test_every_link_of_a_document_leads_somewhere(path: Path) -> None:
    assert broken_links(path, text_of(path)) == []


def test_a_broken_link_is_seen() -> None:
    text = "## Here and there\n[a](#here-and-there) [b](#nowhere) [c](README.md) [d](NONE.md) `[e](x)`"

    assert broken_links(ROOT / "README.md", text) == ["#nowhere", "NONE.md"]


@pytest.mark.parametrize("path", DOCUMENTS, ids=lambda path: str(path.relative_to(ROOT)))
def test_every_command_of_a_document_exists(path: Path) -> None:
    assert commands_in(text_of(path)) - words() == set()


def test_a_command_that_does_not_exist_is_seen() -> None:
    assert commands_in("`deploytrail strat` and deploytrail knows\n```\ndeploytrail dctor\n```\n") == {"strat", "dctor"}


def test_every_command_is_told_of_in_a_table_of_a_readme() -> None:
    readmes = text_of(ROOT / "README.md") + text_of(ROOT / "producers/README.md")
    rows = re.findall(r"^\| (`[^|]+)\|", readmes, re.MULTILINE)
    told = {word for row in rows for code in re.findall(r"`([^`]+)`", row) for word in code.split()}

    assert words() - told == set()


def test_every_setting_of_a_document_exists() -> None:
    tests = "".join(path.read_text(encoding="utf-8") for path in (ROOT / "tests").rglob("*.py"))
    of_tests = {name for name in _SETTING.findall(tests) if name.startswith("DEPLOYTRAIL_TEST_")}
    known = {setting for setting, *_ in describe()} | SET_BY_US | of_tests
    named = {(str(path.relative_to(ROOT)), name) for path in DOCUMENTS for name in _SETTING.findall(text_of(path))}

    assert {(path, name) for path, name in named if name not in known} == set()


def test_the_producers_readme_names_every_ci_system() -> None:
    readme = text_of(ROOT / "producers/README.md")
    told = re.search(r"of (\d+) CI systems \(.*?\): (.*?)\. What the call says", readme, re.DOTALL)
    assert told
    names = [re.sub(r" \(.*?\)", "", name, flags=re.DOTALL) for name in re.sub(r"\s+", " ", told[2]).split(", ")]
    known = {system.name for system in SYSTEMS}

    assert {system for name in names for system in WRITTEN.get(name, (name.lower().replace(" ", "_"),))} == known
    assert int(told[1]) == len(known)
    assert f"{len(known)} CI systems" in text_of(ROOT / "README.md")


def test_every_webhook_of_a_document_has_a_source() -> None:
    named = {name for path in DOCUMENTS for name in re.findall(r"/webhooks/([a-z][a-z_]+)", text_of(path))}

    assert named - set(adapters.names()) == {"shipit"}  # the guide's example


def calls_in(text: str) -> set[tuple[tuple[str, ...], str]]:
    """Each option of a `deploytrail WORD … --option` in code, with the words before it; not what CMD is given."""
    found = set()
    for line in "\n".join(code_of(text)).replace("\\\n", " ").splitlines():
        for call in re.findall(r"(?<![\w./-])deploytrail ([a-z][^#|&;`)…]*)", line):
            said = re.split(r" --(?: |$)", call)[0].split()
            lead = tuple(itertools.takewhile(re.compile(r"[a-z][a-z-]*").fullmatch, said))[:3]
            if not lead:  # it is the name of something else, as in `gcloud … create deploytrail pubsub.…`
                continue
            found |= {(lead, option) for option in re.findall(r"(?<=[\s\[])--[a-z][a-z-]*", " ".join(said))}
    return found


@cache
def help_of(lead: tuple[str, ...]) -> str:
    """What --help says behind words: a second one may be a word of the first, or what it is about."""
    out = io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.suppress(SystemExit):
        command.main([*lead, "--help"])
    return out.getvalue()


@pytest.mark.parametrize("path", DOCUMENTS, ids=lambda path: str(path.relative_to(ROOT)))
def test_every_option_of_a_command_in_a_document_is_in_its_help(path: Path) -> None:
    unknown = {
        f"{' '.join(lead)} {option}"
        for lead, option in calls_in(text_of(path))
        if not re.search(rf"(?<![\w-]){option}(?![\w-])", help_of(lead))
    }

    assert unknown == set()


def test_an_option_that_does_not_exist_is_seen() -> None:
    text = "deploytrail policy apply --wiat policies/\ndeploytrail run --service a -- make --jobs\n"
    calls = calls_in(f"```\n{text}```\n")

    assert calls == {(("policy", "apply"), "--wiat"), (("run",), "--service")}
    assert "--wait" in help_of(("policy", "apply"))
    assert "--wiat" not in help_of(("policy", "apply"))
