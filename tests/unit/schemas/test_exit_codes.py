"""A supervisor learns from the exit code whether to start a command again."""

from __future__ import annotations

import pytest
from deploytrail_schemas.errors import ConfigurationError, DeploytrailError, RetryLater
from deploytrail_schemas.exit_codes import CONFIG, UNAVAILABLE, exit_code_of


@pytest.mark.requirement("M8.5")
@pytest.mark.parametrize(
    ("error", "expected"),
    [
        (ConfigurationError("DEPLOYTRAIL_KAFKA is empty"), CONFIG),
        (RetryLater("Kafka is away"), UNAVAILABLE),
        (DeploytrailError("port 80 cannot be had"), UNAVAILABLE),
        (OSError("no space left"), UNAVAILABLE),
    ],
)
def test_only_a_wrong_setting_is_not_to_be_tried_again(error: Exception, expected: int) -> None:
    assert (CONFIG, UNAVAILABLE) == (78, 69)
    assert exit_code_of(error) == expected
