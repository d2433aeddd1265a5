"""The kinds of record that travel through the topics."""

from __future__ import annotations

from enum import Enum


class RecordType(Enum):
    """One kind of record; the value is its Avro name."""

    DEPLOYMENT_EVENT = "DeploymentEvent"
    SIGNAL = "Signal"
    APPROVAL = "Approval"
    OBSERVATION = "Observation"
    TICK = "Tick"
    RECORD = "Record"
    FINDING = "Finding"
    GLOBAL_CHANGE = "GlobalChange"

    @property
    def file_stem(self) -> str:
        """Name of its schema files before .vN.avsc: DeploymentEvent → deployment_event."""
        return "".join(f"_{c.lower()}" if c.isupper() else c for c in self.value).lstrip("_")

    @property
    def id_field(self) -> str:
        """The field that names one record of this kind."""
        return _ID_FIELDS[self]

    @property
    def is_reported(self) -> bool:
        """Whether reporters may send it: what the intake topic carries, ticks apart."""
        return self in REPORTED


_ID_FIELDS = {
    RecordType.DEPLOYMENT_EVENT: "event_id",
    RecordType.SIGNAL: "signal_id",
    RecordType.APPROVAL: "approval_id",
    RecordType.OBSERVATION: "observation_id",
    RecordType.TICK: "region",
    RecordType.RECORD: "deployment_id",
    RecordType.FINDING: "finding_id",
    RecordType.GLOBAL_CHANGE: "event_id",
}
REPORTED = frozenset({RecordType.DEPLOYMENT_EVENT, RecordType.SIGNAL, RecordType.APPROVAL, RecordType.OBSERVATION})
# Set by the intake app alone; a reporter that sends one of these is refused.
CANONICAL_FIELDS = (
    "sent_at",
    "received_at",
    "corrected_at",
    "uncertainty_ms",
    "reporter",
    "reported_region",
    "reported_environment",
    "reported_service",
)
