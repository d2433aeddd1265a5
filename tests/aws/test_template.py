"""The CloudFormation template as cfn-lint, which knows the specification of every resource, reads it."""

from __future__ import annotations

from pathlib import Path

import pytest
from cfnlint import api

TEMPLATE = Path(__file__).parents[2] / "deploy/aws/template.yaml"


@pytest.mark.requirement("M8.6")
def test_the_template_has_no_error_and_no_warning() -> None:
    found = api.lint_file(TEMPLATE)

    assert [str(match) for match in found] == []


def test_a_misspelt_property_would_be_seen(tmp_path: Path) -> None:
    wrong = tmp_path / "template.yaml"
    wrong.write_text(TEMPLATE.read_text("utf-8").replace("MemorySize:", "MemorySizes:"), "utf-8")

    assert api.lint_file(wrong)
