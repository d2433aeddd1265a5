"""Names of the Kafka headers; every value is ASCII text."""

from __future__ import annotations

from deploytrail_schemas.errors import ConfigurationError

SENT_AT = "dt-sent-at"  # µs, sender's wall clock when it handed the record over
SENT_MONOTONIC = "dt-sent-monotonic"  # ns, the same machine's monotonic clock then, of the boot of its events
RECEIVED_AT = "dt-received-at"  # µs, when the gateway or the backfilled system received it
ECHO = "dt-echo"  # "sent,received,acknowledged" µs of the producer's latest acknowledged record
CLOCK = "dt-clock"  # "offset,uncertainty" µs of the sender's clock, by the word of what disciplines it
REPORTER = "dt-reporter"  # who was authenticated; set by gateway, poller and backfill only
POLLED_BY = "poll:"  # how a poller begins its REPORTER; the source follows
SCOPE = "dt-scope"  # bounds of whoever reported it to the gateway, JSON; missing: none. See scopes.bounds
SIGNATURE = "dt-signature"  # "token id:base64", who wrote a record straight to Kafka; see record_signatures
CAUSE = "dt-cause"  # records and findings: "app:partition:offset" of the trail record on which it was written
ROW_OF = "dt-row-of"  # rows in changelogs: the offset of the record on which it was written, of the same partition
CLAIM = "dt-claim"  # claims: "cluster:partition" of the record
INTAKE = "dt-intake"  # "partition:offset" of the intake record that a trail record came from

REASON = "dt-reason"  # dead letters: a DeadLetterReason
DETAIL = "dt-detail"  # dead letters: what was wrong, in words
ORIGIN = "dt-origin"  # dead letters: "topic:partition:offset"
REDACTED = "dt-redacted"  # dead letters: kinds of the secrets overwritten, kind,…; missing: as it came

# The same facts over HTTP, from a producer to the gateway.
HTTP_SENT_AT = "Deploytrail-Sent-At"
HTTP_SENT_MONOTONIC = "Deploytrail-Sent-Monotonic"
HTTP_ECHO = "Deploytrail-Echo"
HTTP_CLOCK = "Deploytrail-Clock"


def bearer(token: str) -> dict[str, str]:
    """The header that shows a token; none without one.

    ConfigurationError, which does not repeat the token, where no header can carry it.
    """
    if not token.isascii() or not token.isprintable():
        raise ConfigurationError("DEPLOYTRAIL_TOKEN holds a character that no token has; get the whole token again")
    return {"Authorization": f"Bearer {token}"} if token else {}
