"""CDEvents out of CloudEvents 1.0: bare, structured, or with the context in headers.

https://github.com/cloudevents/spec/blob/v1.0.2/cloudevents/bindings/http-protocol-binding.md,
https://github.com/cdevents/spec/blob/main/cloudevents-binding.md
"""

from __future__ import annotations

import base64
import binascii
import json
from collections.abc import Mapping
from typing import Any
from urllib.parse import unquote

from deploytrail.adapters.base import AdapterError, mapping, text

# CloudEvents attribute → the field of a CDEvent's context that it stands for.
_CONTEXT = {"id": "id", "source": "source", "type": "type", "time": "timestamp"}


def opened(given: Any, headers: Mapping[str, str]) -> Mapping[str, Any]:
    """The CDEvent of a body, or of one item of a batch. AdapterError for what is no object."""
    if not isinstance(given, Mapping):
        raise AdapterError("a CDEvent is a JSON object, alone, in a CloudEvent, or in a list of these")
    data = given
    # Headers are percent-encoded, where they hold more than ASCII.
    attributes = {name: unquote(headers.get(f"ce-{name}", "")) for name in _CONTEXT}
    if "context" not in given and ("data" in given or "data_base64" in given):
        attributes = {name: text(given, name) for name in _CONTEXT}
        data = _data(given)
    # Binary content mode may leave the context to the CloudEvent: the body has the subject alone.
    told = {_CONTEXT[name]: value for name, value in attributes.items() if value}
    return {**data, "context": told | dict(mapping(data, "context"))}


def _data(event: Mapping[str, Any]) -> Mapping[str, Any]:
    """What a structured CloudEvent carries: an object, the text of one, or its base64."""
    data = event.get("data")
    try:
        if data is None:
            data = base64.b64decode(text(event, "data_base64"), validate=True)
        if isinstance(data, (str, bytes)):
            data = json.loads(data)
    except (binascii.Error, ValueError, RecursionError):
        data = None
    if not isinstance(data, Mapping):
        raise AdapterError("the CloudEvent's data is no JSON object")
    return data
