"""Secrets are taken out of what is said, by the names before them and by what they look like.

Pure. In: any text, or the value of a record. Out: the same with `[redacted:KIND]` in the
place of each secret; commits, digests, UUIDs, versions, tickets and plain URLs stay as they are.

What it cannot know: a secret of hexadecimal digits or of words, without a name or mark beside it.
"""

from __future__ import annotations

from deploytrail_schemas.secret_names import is_harmless, kind_of_name, words
from deploytrail_schemas.secret_shapes import TOKENS, pattern, random_text, tokens, userinfo

TYPE_CHECKING = False  # what typing says, without the import
if TYPE_CHECKING:
    from collections.abc import Iterator
    from typing import Any

    from deploytrail_schemas.secret_shapes import Span

SHORTEST = 6  # name, sign and value: no secret fits into less
# Fields that name something: chance made them, and nothing opens by them. Marked tokens are found in them too.
NAMES = words(
    "event_id signal_id approval_id observation_id finding_id deployment_id parent_deployment_id rollback_of "
    "rolled_back_by producer_id boot_id build_id build_number commit_sha artifact_digest fingerprint permit_id "
    "incident_id ticket_id supersedes"
)
# Names in maps that say the same of their values.
_NAMED = (
    "_id", "-id", ".id", "_sha", "_sha1", "_sha256", "_digest", "_hash", "_checksum", "_etag", "_uid", "_fingerprint",
)  # fmt: skip
# One of these stands in every text in which a name announces a secret.
HINTS = (
    "pass", "pwd", "secret", "token", "key", "cred", "auth", "cookie", "bearer", "basic ", "sig", "jwt",
    "connection", "code=", "-u", "docker", "mysql", "redis-cli",
)  # fmt: skip

_VALUE = (
    r"(?:\"(?P<dq>(?:[^\"\\]|\\.)*+)|'(?P<sq>(?:[^'\\]|\\.)*+)|\\+[\"'](?P<eq>.*?)(?=\\+[\"']|\Z)"
    r"|(?P<bare>(?:(?![;&,]\s{0,3}[\w.-]{1,64}\s{0,3}[=:])[^\s\"'])++))"
)
# Behind these stands the value; it is read only where the name is a secret's, since it may hold the next name.
_ASSIGNED = r"(?<![\w.-])(?P<name>[\w.-]{1,128}+)(?P<sign>\\*[\"']?\]?[ \t]{0,3}(?::=|=>|=|:)\s{0,3})"
_FLAG = r"(?P<name>(?:--|(?<![\w-])-)[A-Za-z][\w-]{0,63}+)(?P<sign>[ \t]+|\\*[\"'],\s{0,3}(?=\\*[\"']))(?!-)"
_XML = r"<(?P<name>[\w.:-]{1,64}+)(?P<sign>>)(?=[^<]{1,4096}</)"
_XML_VALUE = r"(?P<bare>[^<]+)"
_HEADER = (
    r"(?P<name>authorization|(?:set-)?cookie)\\*[\"']?\s{0,3}(?::|=|,\s{0,3}(?=[\"']))\s{0,3}\\*[\"']?"
    r"(?P<bare>[^\r\n\"'\\]+)"
)
_SCHEME = r"(?P<name>bearer|basic)\s+(?P<bare>[A-Za-z0-9+/._~=-]{8,})"
_QUERY = r"(?<=[?&])(?P<name>key|code|sig)=(?P<bare>[^&#\s\"']{12,})"
_QUOTED = r"(?P<name>password|passphrase)\s+(?:is\s+|was\s+)?(?P<quote>[\"'`])(?P<bare>[^\"'`]+)(?=(?P=quote))"
_USER = r"(?:(?<![\w-])(?:-u|-U)|--user|--proxy-user)(?:[ =]|\\*[\"'],\s{0,3}\\*[\"'])[^\s:\"']+:(?P<bare>[^\s\"']+)"
_TOOL = (
    r"(?:mysql\w*\s(?:[^\s-]\S*\s|-[^p]\S*\s){0,8}?-p|sshpass\s+-p\s*|redis-cli\s(?:\S+\s){0,8}?-a\s+)"
    r"(?P<bare>[^\s\"']+)"
)
_CASELESS = 2  # re.IGNORECASE, without the import


def redact_text(text: str) -> str:
    """The text with each secret replaced by `[redacted:KIND]`; users and passwords of URLs are left out."""
    return _replaced(text, secrets_in(text))


def redact_value(value: dict[str, Any]) -> dict[str, Any]:
    """The value of a record with no secret in any text, map or list; the same object where there is none.

    Under a name that announces a secret the whole of a map's value goes. Texts in which none was
    found lately are not searched again: services, versions and the like stand in every event.
    """
    unseen = {name: item for name, item in value.items() if _is_unseen(name, item)}
    if not unseen:
        return value
    search = _search_of(unseen)
    found = {name: search.redacted(name, item) for name, item in unseen.items()} if search else unseen
    for name, item in unseen.items():
        if found[name] == item:
            _remember(name, item)
    return {**value, **found} if search else value


# What holds no secret: texts, texts that are names, and entries of maps. Bounded; whoever floods it only slows himself.
_clean: set[str | tuple[str, str]] = set()
_clean_names: set[str] = set()
_MOST_CLEAN = 8192
_LONGEST_CLEAN = 256
_HEX = "0123456789abcdefABCDEF-"  # ids and digests: no mark and no hint is of these letters alone


def _is_unseen(name: str, item: Any) -> bool:
    if type(item) is str:
        if len(item) < SHORTEST or item in _clean or (name in NAMES and item in _clean_names):
            return False
        return bool(item.strip(_HEX))
    if type(item) is dict:
        return any([entry not in _clean for entry in item.items() if type(entry[1]) is str]) or not all(
            [type(one) is str for one in item.values()]
        )
    return isinstance(item, (str, dict, list, tuple)) and bool(item)


def _remember(name: str, item: Any) -> None:
    clean = _clean_names if name in NAMES else _clean
    if len(clean) > _MOST_CLEAN:
        clean.clear()
    if type(item) is str and len(item) <= _LONGEST_CLEAN:
        clean.add(item)
    elif type(item) is dict:
        _clean.update(
            (key, one) for key, one in item.items() if type(one) is str and len(key) + len(one) <= _LONGEST_CLEAN
        )


def without_credentials(text: str) -> str:
    """A text whose URLs carry no user or password: https://me:secret@host/x → https://host/x."""
    return _replaced(text, list(userinfo(text)))


def secrets_in(text: str) -> list[Span]:
    """Where the secrets of a text begin and end, and of which kind they are: in order, without overlap."""
    return Search(text, text).run(text)


class Search:
    """What of all that is looked for is worth looking for: the marks and hints that stand in any of some texts.

    Asked of all texts of a record at once, which costs a fraction of asking each.
    """

    __slots__ = ("_hints", "_marked", "_random", "_urls")

    def __init__(self, texts: str, not_names: str) -> None:
        lower = texts.lower()
        self._hints = [hint for hint in HINTS if hint in lower]
        self._marked = [mark for mark in TOKENS if mark[0] in texts]
        self._urls = "://" in texts and "@" in texts
        self._random = next(random_text(not_names), None) is not None

    def __bool__(self) -> bool:
        return bool(self._hints or self._marked or self._urls or self._random)

    def run(self, text: str, *, is_name: bool = False) -> list[Span]:
        """The secrets of one of the texts. A name is not one for being random."""
        if len(text) < SHORTEST:
            return []
        found: list[Span] = []
        for mark in self._marked:
            if mark[0] in text:
                found += tokens(text, mark)
        if self._urls and "@" in text:
            found += userinfo(text)
        lower = text.lower()
        for hint in self._hints:
            if hint in lower:
                found += _announced(text)
                break
        if self._random and not is_name:
            found += random_text(text)
        return merged(found) if found else found

    def redacted(self, name: str, item: Any) -> Any:
        """The value of a field, whatever its type."""
        if isinstance(item, str):
            return _replaced(item, self.run(item, is_name=name in NAMES))
        if isinstance(item, dict):
            return {_key(key): self._entry(str(key), text) for key, text in item.items()}
        if isinstance(item, (list, tuple)):
            return [self.redacted(name, part) for part in item]
        return item

    def _entry(self, key: str, item: Any) -> Any:
        if not isinstance(item, str):
            return self.redacted(key, item)
        kind = kind_of_name(key)
        if kind and not is_harmless(item, key):
            return f"[redacted:{kind}]"
        return _replaced(item, self.run(item, is_name=key.lower().endswith(_NAMED)))


def _search_of(value: dict[str, Any]) -> Search:
    texts: list[str] = []
    names: list[str] = []
    for name, item in value.items():
        if isinstance(item, str):
            (names if name in NAMES else texts).append(item)
        elif isinstance(item, dict):
            for key, text in item.items():
                texts += str(key), str(text)
        elif isinstance(item, (list, tuple)):
            texts.extend(map(str, item))
    joined = "\n".join(texts)
    return Search("\n".join((joined, *names)), joined)


def _key(key: Any) -> Any:
    return redact_text(key) if isinstance(key, str) else key


def _announced(text: str) -> Iterator[Span]:
    """Values behind a name that says what they are."""
    for found in pattern(_HEADER, _CASELESS).finditer(text):
        if not is_harmless(found["bare"].split(" ")[0], "") or _is_scheme(found["bare"]):
            yield *found.span("bare"), kind_of_name(found["name"])
    for shape, value in ((_ASSIGNED, _VALUE), (_FLAG, _VALUE), (_XML, _XML_VALUE)):
        behind = 0  # values that hold names are read once
        for found in pattern(shape).finditer(text):
            if found.start() >= behind and (kind := kind_of_name(found["name"])):
                for span in _value(text, found, kind, pattern(value).match(text, found.end())):
                    behind = span[1]
                    yield span
    for found in pattern(_SCHEME, _CASELESS).finditer(text):
        said = found["bare"]
        if any(map(str.isdigit, said)) or said[1:] != said[1:].lower():
            yield *found.span("bare"), "token"
    for shape, kind in ((_QUERY, "signature"), (_QUOTED, "password"), (_TOOL, "password")):
        for found in pattern(shape, _CASELESS).finditer(text):
            if not is_harmless(found["bare"]):
                yield *found.span("bare"), kind
    for found in pattern(_USER).finditer(text):
        if not found["bare"].isdecimal() and not is_harmless(found["bare"]):
            yield *found.span("bare"), "password"


def _is_scheme(said: str) -> bool:
    """`Basic dXNlcjpwYXNz`: a word that stands for none is followed by what matters."""
    first, _, rest = said.partition(" ")
    return first.lower() in {"basic", "oauth"} and len(rest) > 3


def _value(text: str, named: Any, kind: str, found: Any) -> Iterator[Span]:
    if found is None:
        return
    group = str(found.lastgroup)
    start, end = found.span(group)
    if is_harmless(text[start:end], named["name"]):
        return
    if group == "bare":
        end = start + len(found[group].rstrip(",;)}]>"))
        if _is_address(text, named, text[start:end]):
            return
    if not is_harmless(text[start:end], named["name"]):
        yield start, end, kind


def _is_address(text: str, named: Any, value: str) -> bool:
    """registry/token:4.2, token-service:8080 and key::value: a colon that assigns nothing."""
    if named["sign"] != ":":
        return False
    before = text[named.start() - 1] if named.start() else ""
    return before in ("/", ":", "@") or value[:1] in ":/" or value.partition("/")[0].isdecimal()


def merged(found: list[Span]) -> list[Span]:
    """Spans in order, those that overlap as one."""
    merged: list[Span] = []
    for start, end, kind in sorted(found, key=lambda span: (span[0], -span[1])):
        if start >= end:
            continue
        if merged and start < merged[-1][1]:
            first, last, known = merged[-1]
            merged[-1] = (first, max(last, end), known)
        else:
            merged.append((start, end, kind))
    return merged


def _replaced(text: str, found: list[Span]) -> str:
    if not found:
        return text
    parts: list[str] = []
    at = 0
    for start, end, kind in found:
        parts.append(text[at:start])
        if kind != "userinfo":
            parts.append(f"[redacted:{kind}]")
        at = end
    return "".join(parts) + text[at:]
