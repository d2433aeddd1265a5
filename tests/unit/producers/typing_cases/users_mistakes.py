"""What a type checker must refuse in a deploy script: the code of the error stands behind each line."""

from __future__ import annotations

import deploytrail
from deploytrail import Tracker
from deploytrail import rollback as undo  # noqa: F401  # expect: attr-defined

deploytrail.track("checkout", "production", versoin="4.2.0")  # expect: call-arg
deploytrail.track("checkout", "production", kind="hotfx")  # expect: arg-type
deploytrail.track("checkout", "production", strategy="bluegreen")  # expect: arg-type
deploytrail.track("checkout", "production", cohort_weight="much")  # expect: arg-type
deploytrail.track("checkout", "production", tags={"sprint": 42})  # expect: dict-item
deploytrail.track("checkout", "production", event_id="mine")  # expect: call-arg
deploytrail.start("checkout", "production", received_at=0)  # expect: call-arg
deploytrail.succeed(42)  # expect: arg-type
deploytrail.fail("d-1", exitcode=3)  # expect: call-arg
deploytrail.roll_back("d-1", deployer_type="robot")  # expect: arg-type
deploytrail.trakc("checkout")  # expect: attr-defined
Tracker("checkout").progress(weight=0.1)  # expect: call-arg
Tracker("checkout").suceed()  # expect: attr-defined
