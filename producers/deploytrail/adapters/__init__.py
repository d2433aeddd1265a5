"""Other people's payloads as our records: one file a source, pure, and sure to survive any payload.

An adapter is `adapt(payload, headers, defaults, received_at) -> Adapted`. Ids follow from the
source's own ids, so that a webhook, its repetition and a poller give the same record.
"""
