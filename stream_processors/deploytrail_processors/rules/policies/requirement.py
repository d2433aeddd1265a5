"""Policies of the kinds `required_fields` and `regime`: what must be known of a deployment."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from deploytrail_schemas.policies.reader import Reader
from deploytrail_schemas.policies.scope import Scope, read_scope

# Fields of a DeploymentEvent that may be asked for; business tags of any name are asked for as `tags`.
REQUIRABLE = (
    *("tier", "team", "version", "previous_version", "artifact_digest", "artifact_uri", "commit_sha", "repository"),
    *("ref", "build_id", "build_url", "pipeline", "deployer", "change_ticket", "feature_ticket", "sprint"),
    *("justification", "permit_id", "instance"),
)
# By which a record about the same work is known.
TICKETS = ("feature_ticket", "change_ticket")
# What else must have happened: see `rules.requirements`.
CONTROLS = ("registered", "approved", "permit", "authenticated_reporter")


@dataclass(frozen=True, slots=True)
class Requirement:
    """Fields, tags and controls that a deployment must have.

    `heal`: a field → the tickets by which its value may be taken from other records of the same ticket.
    """

    fields: tuple[str, ...] = ()
    tags: tuple[str, ...] = ()
    controls: tuple[str, ...] = ()
    heal: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    scope: Scope = field(default_factory=Scope)

    @property
    def names(self) -> tuple[str, ...]:
        """Fields, and tags as `tags.NAME`."""
        return (*self.fields, *(f"tags.{tag}" for tag in self.tags))


def read_required_fields(reader: Reader) -> Requirement:
    found = Requirement(
        fields=reader.choices("fields", REQUIRABLE, about="Fields that the events of a deployment must fill."),
        tags=reader.texts("tags", about="Business tags that they must have."),
        heal=reader.texts_by_name(
            "heal",
            about="For a field, or tags.NAME: tickets (feature_ticket, change_ticket) whose other records tell it.",
        ),
        scope=read_scope(reader),
    )
    if not found.names and not reader.problems:
        reader.wrong("fields", "is missing; expected fields or tags")
    for name, tickets in found.heal.items():
        if name not in found.names:
            reader.wrong("heal", f"speaks of {name!r}, which is not required here")
        for ticket in tickets:
            if ticket not in TICKETS:
                reader.wrong("heal", f"holds {ticket!r}; expected {' or '.join(TICKETS)}")
    return found


def read_regime(reader: Reader) -> Requirement:
    """A regime applies to the services whose policy lists it."""
    found = Requirement(
        fields=reader.choices("fields", REQUIRABLE, about="Fields that the events of a deployment must fill."),
        tags=reader.texts("tags", about="Business tags that they must have."),
        controls=reader.choices("controls", CONTROLS, about="What must have happened besides."),
        scope=read_scope(reader),
    )
    if not (found.names or found.controls) and not reader.problems:
        reader.wrong("fields", "is missing; expected fields, tags or controls")
    return found
