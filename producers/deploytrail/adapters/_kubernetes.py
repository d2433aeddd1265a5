"""What Kubernetes objects say of themselves, for the adapters that read them."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from deploytrail.adapters.base import Defaults, first, mapping, placed, text

# Labels or annotations, the first of each list that is there; ours win.
# https://kubernetes.io/docs/reference/labels-annotations-taints/
NAMES = {
    "region": ("deploytrail.dev/region", "topology.kubernetes.io/region", "region"),
    "environment": ("deploytrail.dev/environment", "environment", "env", "dd_env"),
    "service": ("deploytrail.dev/service", "dd_service"),
    "team": ("deploytrail.dev/team", "team"),
    "parent": ("deploytrail.dev/deployment-id",),
    "version": ("deploytrail.dev/version", "app.kubernetes.io/version"),
}
_DIGEST = re.compile(r"sha(256|384|512):[0-9a-f]+", re.ASCII)


def said(metadata: Mapping[str, Any], what: str) -> str:
    """What an object's annotations or labels say of its region, environment, service, team, parent or version."""
    return first(*(text(metadata, where, name) for name in NAMES[what] for where in ("annotations", "labels")))


def place_of(metadata: Mapping[str, Any], defaults: Defaults, source: str, *, name: str, host: str) -> dict[str, str]:
    """Where an object is: what it says itself, then the webhook's URL, and for the service its name."""
    return placed(
        defaults,
        source,
        region=said(metadata, "region"),
        environment=said(metadata, "environment"),
        service=first(said(metadata, "service"), defaults.service, name),
        host=host,
    )


def image(uri: str) -> dict[str, str]:
    """Address, version and digest of a container image: registry:port/name:tag@sha256:… in any part of it."""
    name, _, digest = uri.partition("@")
    tag = name.rpartition("/")[2].partition(":")[2]
    return {"artifact_uri": uri, "version": tag, "artifact_digest": digest if _DIGEST.fullmatch(digest) else ""}


def identity(thing: Mapping[str, Any]) -> str:
    """What tells an object from all others: its uid, else kind, namespace and name; "" where it has no name."""
    name = text(thing, "name")
    return first(text(thing, "uid"), name and "/".join(filter(None, (text(thing, "namespace"), name))))


def unwrapped(payload: object, *names: str) -> Mapping[str, Any]:
    """The object in a template's field, in a watch event's `object`, or the payload itself."""
    return next(filter(None, (mapping(payload, name) for name in (*names, "object"))), mapping(payload))
