"""Policies of the kind `retention`: how long, and how firmly, the archive keeps what is recorded of a place."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from deploytrail_schemas.policies.document import Document
from deploytrail_schemas.policies.in_force import InForce
from deploytrail_schemas.policies.reader import Reader
from deploytrail_schemas.policies.scope import Scope, read_scope

# As the archive names them: each has objects of its own, since lock and purge act on objects.
CLASSES = ("production-regulated", "production", "non-production")
LOCKS = ("none", "governance", "compliance")
MOST_DAYS = 100 * 366
# What regimes such as SOX ask for, with a margin (17 CFR 210.2-06).
LEAST_REGULATED_DAYS = 7 * 366 + 30


@dataclass(frozen=True, slots=True)
class Retention:
    """Records of the places in `scope`, and of the services under one of the `regimes`, are of this class, which is
    kept for so many days. `lock` empty: as the store does."""

    retention_class: str
    days: int
    lock: str = ""
    tier: str = ""
    regimes: tuple[str, ...] = ()
    scope: Scope = Scope()


def read_retention(reader: Reader) -> Retention:
    found = Retention(
        retention_class=reader.choice("class", CLASSES, about="The archive's class of these records."),
        days=reader.count("days", None, most=MOST_DAYS, about="How long that class is kept.") or 0,
        lock=reader.choice("lock", ("", *LOCKS), "", about="How firmly; empty: as the store does."),
        tier=reader.text("tier", "", about="The store's storage class, such as GLACIER_IR."),
        regimes=reader.texts("regimes", about="Only of services under one of these; left out: of any."),
        scope=read_scope(reader),
    )
    if not found.days and not reader.problems:
        reader.wrong("days", "is missing")
    if found.retention_class == CLASSES[0] and 0 < found.days < LEAST_REGULATED_DAYS:
        reader.wrong("days", f"is {found.days}; regulated records are kept for at least {LEAST_REGULATED_DAYS}")
    return found


def retention_for(subject: Mapping[str, str], policies: InForce) -> tuple[Document, Retention] | None:
    """The policy for the records of a place: of those that cover it the one that keeps longest, then the firmest. None
    where none does, and the archive's own classes hold; invalid ones are passed over."""
    regimes = policies.service(subject["service"]).regimes
    valid = [(d, d.spec) for d in policies.of_kind("retention") if isinstance(d.spec, Retention)]
    covering = [
        (document, spec)
        for document, spec in valid
        if spec.scope.covers(subject) and (not spec.regimes or set(spec.regimes) & set(regimes))
    ]
    firm = {name: index for index, name in enumerate(("", *LOCKS))}
    return max(covering, key=lambda one: (one[1].days, firm[one[1].lock], one[0].name), default=None)
