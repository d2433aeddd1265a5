"""What `deploytrail doctor` looks at where its host serves: a gateway, a poller, a check of permits.

Each check speaks only where the environment sets what it looks at. Files are read as the server
reads them at its start; nothing is registered, published or renewed.
"""

from __future__ import annotations

import importlib.util
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from pathlib import Path

from deploytrail_schemas.counted import counted
from deploytrail_schemas.credential_file import CredentialFile
from deploytrail_schemas.credentials import Credential, Credentials, authenticate
from deploytrail_schemas.errors import ConfigurationError, DeploytrailError, RetryLater
from deploytrail_schemas.records import RecordType
from deploytrail_schemas.scopes import Verb
from deploytrail_schemas.settings import Settings, variable
from deploytrail_schemas.topics import Topic

from deploytrail import _doctor_connection, _permit_keys
from deploytrail._doctor_check import BROKEN, OK, WARNING, Check
from deploytrail._doctor_host import size, write_into

_FULL = 0.9  # share of the gateway's spool above which it is nearly full


def serving(settings: Settings, environ: Mapping[str, str], timeout: float) -> Iterator[Check]:
    """Every check of what this environment serves with."""
    for look in (_tokens, _relay_token, _webhook_secrets, _oidc, _csv_maps, _permits):
        yield from look(settings)
    yield from _poll(settings, environ)
    yield from _gateway_spool(settings, environ)
    yield from _registry(settings, timeout)
    if settings.url.lower().startswith("kafka://"):
        yield from _signing(settings)
    elif environ.get(variable("kafka")):
        behind = replace(settings, url=f"kafka://{settings.kafka}")
        yield from _doctor_connection.kafka(behind, timeout, variable("kafka"))


def _tokens(settings: Settings) -> Iterator[Check]:
    """DEPLOYTRAIL_CREDENTIALS: whose tokens are accepted."""
    if not settings.credentials:
        return
    name, path = variable("credentials"), Path(settings.credentials)
    try:
        found = CredentialFile(path).credentials
        mode = path.stat().st_mode
    except (ConfigurationError, OSError) as error:
        fix = f"set {name} to the file that `deploytrail token create` writes, and let this user read it"
        yield Check(BROKEN, "tokens", f"{name}: {error}", fix)
        return
    if mode & 0o022:
        fix = f"chmod 600 {path}: whoever may write it grants access"
        yield Check(WARNING, "tokens", f"{path} can be written by others than its owner", fix)
    now = time.time_ns() // 1000
    hold = sum(credential.refusal_at(now) is None for credential in found.values())
    if hold:
        yield Check(OK, "tokens", f"{hold} of {counted(len(found), 'token')} {'hold' if len(found) > 1 else 'holds'}")
    else:
        fix = "make one with `deploytrail token create`"
        yield Check(
            WARNING, "tokens", f"none of {counted(len(found), 'token')} holds: nobody who shows one is let in", fix
        )


def _relay_token(settings: Settings) -> Iterator[Check]:
    """DEPLOYTRAIL_RELAY_TOKEN: whether records can be signed with it, and whether it is known here for that."""
    if not settings.relay_token:
        return
    name = variable("relay_token")
    if problem := _signing_problem(settings.relay_token, name):
        yield problem
        return
    found = authenticate(_known(settings), settings.relay_token, now=time.time_ns() // 1000)
    if not settings.credentials:
        yield Check(
            OK, "relay token", f"{name} can sign records; {variable('credentials')} is not set to look it up in"
        )
    elif not isinstance(found, Credential):
        fix = "make one with `deploytrail token create --verb relay`: the intake app refuses what this one signs"
        yield Check(BROKEN, "relay token", f"{settings.credentials} does not hold it: {found}", fix)
    elif Verb.RELAY not in found.scope.verbs:
        fix = "make one with `deploytrail token create --verb relay`"
        yield Check(BROKEN, "relay token", f"{found.name} lacks the verb relay", fix)
    else:
        yield Check(OK, "relay token", f"{found.name} can sign records, and holds")


def _signing(settings: Settings) -> Iterator[Check]:
    """Whether events that go straight to Kafka are signed."""
    if not settings.token.startswith("dtk_"):
        need = f"without a dtk_ token in {variable('token')}"
        yield Check(OK, "signing", f"events are not signed {need}: intake takes them where its policies say so")
    elif problem := _signing_problem(settings.token, variable("token")):
        yield problem
    else:
        yield Check(OK, "signing", f"events are signed with {variable('token')}")


def _signing_problem(text: str, name: str) -> Check | None:
    from deploytrail_schemas.record_signatures import Signer

    try:
        Signer(text, name)
    except DeploytrailError as error:
        return Check(BROKEN, "signing", str(error), f"set {name} to the whole token, and install what signs with it")
    return None


def _known(settings: Settings) -> Credentials:
    try:
        return CredentialFile(Path(settings.credentials)).credentials if settings.credentials else {}
    except ConfigurationError:
        return {}  # was said of the tokens


def _webhook_secrets(settings: Settings) -> Iterator[Check]:
    """DEPLOYTRAIL_WEBHOOK_SECRETS: whether each source's scheme can use its secrets."""
    if settings.webhook_secrets:
        yield _read(
            "webhooks",
            variable("webhook_secrets"),
            "correct it: source=secret;…, names of sources by `deploytrail adapters`",
            lambda: _checked(len(_secrets(settings.webhook_secrets))),
        )


def _checked(count: int) -> str:
    return f"{counted(count, 'source of webhooks is', 'sources of webhooks are')} checked by their secrets"


def _secrets(setting: str) -> Mapping[str, list[str]]:
    from deploytrail.gateway.callers import webhook_secrets

    return webhook_secrets(setting)


def _oidc(settings: Settings) -> Iterator[Check]:
    """DEPLOYTRAIL_OIDC, and whether the keys of each issuer can be had now."""
    if not settings.oidc:
        return
    name = variable("oidc")
    fix = f"correct the file that {name} names"
    checked = _read(
        "oidc", name, fix, lambda: counted(len(_issuers(settings.oidc)), "issuer is believed", "issuers are believed")
    )
    yield checked
    if checked.state != OK:
        return
    from deploytrail.gateway import oidc_keys

    for url, source in _issuers(settings.oidc).items():
        try:
            count = len(oidc_keys.read_jwks(oidc_keys.source_bytes(source)))
        except (OSError, ValueError) as error:
            fix = f"see that jwks of {url} in {settings.oidc} is right and that this host may reach it"
            yield Check(BROKEN, "oidc keys", f"{source} gives no keys: {error}; jobs of {url} are refused", fix)
        else:
            yield Check(OK, "oidc keys", f"{counted(count, 'key')} of {url}")


def _issuers(path: str) -> dict[str, str]:
    """Where the keys of each issuer are."""
    from deploytrail.gateway import oidc_config

    return {url: issuer.jwks for url, issuer in oidc_config.load(Path(path)).issuers.items()}


def _csv_maps(settings: Settings) -> Iterator[Check]:
    """DEPLOYTRAIL_CSV_MAPS."""
    if settings.csv_maps:
        from deploytrail import csv_maps

        def told() -> str:
            return counted(len(csv_maps.load(Path(settings.csv_maps))), "map of CSV is read", "maps of CSV are read")

        yield _read("csv maps", variable("csv_maps"), f"correct {settings.csv_maps}", told)


def _permits(settings: Settings) -> Iterator[Check]:
    """DEPLOYTRAIL_PERMIT_*: whether permits can be checked here."""
    if not (settings.permit_keys or settings.permit_issuer or settings.permit):
        return
    fix = "set them to what the gate that issues permits says of itself; without them every permit is refused"

    def told() -> str:
        authority = _permit_keys.authority(settings)
        return f"permits of {authority.issuer!r} for {authority.audience!r} can be checked"

    yield _read("permits", variable("permit_keys"), fix, told)
    if importlib.util.find_spec("cryptography") is None:
        fix = "pip install 'deploytrail[signing]'"
        yield Check(BROKEN, "permits", "cryptography is missing: no signature of a permit can be checked", fix)


def _poll(settings: Settings, environ: Mapping[str, str]) -> Iterator[Check]:
    """DEPLOYTRAIL_POLL, the tokens that it names, and the file in which the poller keeps how far it came."""
    if not settings.poll:
        return
    name = variable("poll")
    checked = _read("poll", name, f"correct {settings.poll}", lambda: _sources(settings.poll)[0])
    yield checked
    if checked.state != OK:
        return
    for source, token in _sources(settings.poll)[1].items():
        if token and not environ.get(token):
            yield Check(BROKEN, "poll", f"{source} needs {token}, which is empty", f"set {token} to the API's token")
    folder = settings.poll_state.expanduser().parent
    try:
        write_into(folder)
    except OSError as error:
        fix = f"let this user write there, or set {variable('poll_state')}: what it saw is asked for again otherwise"
        yield Check(BROKEN, "poll", f"{folder} cannot be used: {error.strerror}", fix)


def _sources(path: str) -> tuple[str, dict[str, str]]:
    """What is asked, for people; the variable of each source's token."""
    from deploytrail.polling import config

    found = config.load(Path(path))
    asked = counted(len(found), "source is asked", "sources are asked")
    return f"{asked} for what webhooks missed", {one.name: one.token_env for one in found}


def _gateway_spool(settings: Settings, environ: Mapping[str, str]) -> Iterator[Check]:
    """The folder in which a gateway keeps records while Kafka is away, where one is or is set."""
    name, limit = variable("gateway_spool"), settings.gateway_spool_max_bytes
    folder = settings.gateway_spool.expanduser()
    if not limit or not (environ.get(name) or folder.is_dir()):
        return
    try:
        write_into(folder)
    except OSError as error:
        fix = f"let this user write there, or set {name}: the gateway does not start without it"
        yield Check(BROKEN, "gateway spool", f"{folder} cannot be used: {error.strerror}", fix)
        return
    used = sum(path.stat().st_size for path in folder.glob("*/*.segment"))
    said = f"{folder} holds {size(used)} of {size(limit)}"
    if used >= limit * _FULL:
        fix = f"mend Kafka: then it empties itself. Or raise {variable('gateway_spool_max_bytes')}"
        yield Check(BROKEN, "gateway spool", f"{said}: what comes while Kafka is away is answered 503", fix)
    else:
        yield Check(OK, "gateway spool", said)
    if kept := sorted(folder.rglob("damaged/*")):
        fix = "look at the disk; the files may be removed once nobody needs the bytes"
        said = counted(
            len(kept), "file of what Kafka or the disk refused lies", "files of what Kafka or the disk refused lie"
        )
        yield Check(WARNING, "gateway spool", f"{said} there", fix)


def _registry(settings: Settings, timeout: float) -> Iterator[Check]:
    """DEPLOYTRAIL_SCHEMA_REGISTRY: whether it answers, and knows what is written with it."""
    if not settings.schema_registry:
        return
    from deploytrail_schemas.registry import SchemaRegistry

    name = variable("schema_registry")
    try:
        registry = SchemaRegistry(settings.schema_registry, settings.schema_registry_auth, timeout=timeout)
        known = registry.has(RecordType.DEPLOYMENT_EVENT, Topic.INTAKE.value)
    except ConfigurationError as error:
        yield Check(BROKEN, "schema registry", str(error), f"correct {name}")
    except RetryLater as error:
        fix = f"see that the registry runs, and that {name} and {variable('schema_registry_auth')} are right"
        yield Check(BROKEN, "schema registry", f"{error}; records wait in the spool meanwhile", fix)
    else:
        more = "" if known else "; the first event registers its schema, which its user must be allowed to"
        yield Check(OK, "schema registry", f"it answers{more}")


def _read(what: str, name: str, fix: str, told: Callable[[], str]) -> Check:
    """What a file or setting says, read as the server reads it."""
    try:
        return Check(OK, what, told())
    except ModuleNotFoundError as error:
        return Check(BROKEN, what, f"{name} needs {error.name}, which is missing", "pip install 'deploytrail[gateway]'")
    except DeploytrailError as error:
        return Check(BROKEN, what, str(error) if name in str(error) else f"{name}: {error}", fix)
