"""What a request asks: text, data, settings, parameters. Pure: bytes in, values out."""

from __future__ import annotations

import email.parser
import gzip
import re
import zlib
from collections.abc import Mapping
from dataclasses import dataclass
from urllib.parse import parse_qsl

from deploytrail_local.clickhouse_server.errors import RequestError

# URL parameters that are no settings of the engine.
_RESERVED = frozenset(
    {
        *("query", "user", "password", "database", "default_format", "query_id", "quota_key", "role"),
        *("session_id", "session_timeout", "session_check", "close_session", "client_protocol_version"),
        *("compress", "decompress", "enable_http_compression", "http_zlib_compression_level"),
        *("wait_end_of_query", "buffer_size", "stacktrace", "send_progress_in_http_headers"),
    }
)
_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
_COMMENTS = rb"^\s*(?:--[^\n]*\n\s*|/\*.*?\*/\s*)*"
_INSERT = re.compile(_COMMENTS + rb"INSERT\b", re.I | re.S)
_RESULT = re.compile(
    _COMMENTS + rb"\(*\s*(?:SELECT|WITH|SHOW|DESC|DESCRIBE|EXPLAIN|EXISTS|CHECK|FROM|KILL)\b", re.I | re.S
)
# The format name ends the text of an INSERT; behind it, on the next line or after a space, stands the data.
_FORMAT = re.compile(
    rb"^(?P<head>.{0,65536}?)\bFORMAT\s+(?P<format>[A-Za-z][A-Za-z0-9_]*)(?:[ \t]*;?[ \t]*\r?\n|[ \t]+|;|$)",
    re.I | re.S,
)
_RESULT_FORMAT = re.compile(rb"\bFORMAT\s+([A-Za-z0-9_]+)\s*;?\s*(?:SETTINGS\b.*)?$", re.I | re.S)
_SETTINGS = re.compile(r"\bSETTINGS\b(?=[^()]*$)", re.I)


@dataclass(frozen=True, slots=True)
class Query:
    """One request to the engine."""

    text: bytes
    database: str
    format: str
    settings: dict[str, str]
    parameters: dict[str, str]
    readonly: str | None

    @property
    def gives_rows(self) -> bool:
        """Whether its answer has a format of its own."""
        return _RESULT.match(self.text) is not None

    @property
    def answer_format(self) -> str:
        """The format that the answer comes in."""
        found = _RESULT_FORMAT.search(self.text[-300:])
        return found[1].decode() if found else self.format


@dataclass(frozen=True, slots=True)
class Insert:
    """An INSERT with its data beside it: `{head} FROM INFILE '…' {settings} FORMAT {format}`."""

    head: str
    settings: str
    format: str
    data: memoryview


def read_query(url_query: str, body: bytes, content_type: str) -> Query:
    """The query of a request whose body is already decompressed."""
    given = dict(parse_qsl(url_query, keep_blank_values=True, encoding="utf-8", errors="surrogateescape"))
    if content_type.startswith("multipart/form-data"):
        given |= _form_fields(content_type, body)
        body = b""
    in_url = given.get("query", "").encode("utf-8", "surrogateescape")
    text = in_url + b"\n" + body if in_url and body else in_url or body
    if not text.strip():
        raise RequestError(400, 62, "Empty query. (SYNTAX_ERROR)")
    settings = {name: value for name, value in given.items() if name not in _RESERVED and not name.startswith("param_")}
    for name in settings:
        if not _NAME.fullmatch(name):
            raise RequestError(400, 115, f"Unknown setting {name!r}. (UNKNOWN_SETTING)")
    readonly = settings.pop("readonly", None)
    if readonly not in (None, "0", "1", "2"):
        raise RequestError(400, 36, "readonly is 0, 1 or 2. (BAD_ARGUMENTS)")
    return Query(
        text=text,
        database=given.get("database", ""),
        format=given.get("default_format", "TabSeparated"),
        settings=settings,
        parameters={name[6:]: value for name, value in given.items() if name.startswith("param_")},
        readonly=readonly,
    )


def read_insert(text: bytes) -> Insert | None:
    """The parts of an INSERT that carries data in a format; None for every other query."""
    if not _INSERT.match(text):
        return None
    found = _FORMAT.match(text)
    if found is None or found["format"].upper() == b"VALUES":
        return None
    head = found["head"].decode("utf-8", "surrogateescape")
    settings = ""
    if at := _SETTINGS.search(head):
        head, settings = head[: at.start()], head[at.start() :]
    return Insert(head, settings, found["format"].decode(), memoryview(text)[found.end() :])


def decompress(body: bytes, encoding: str) -> bytes:
    """The body without its Content-Encoding."""
    match encoding.lower():
        case "" | "identity":
            return body
        case "gzip":
            return gzip.decompress(body)
        case "deflate":
            return zlib.decompress(body)
        case "lz4":
            import lz4.frame

            plain: bytes = lz4.frame.decompress(body)
            return plain
        case "zstd":
            from backports import zstd

            return zstd.decompress(body)
    raise RequestError(415, 0, f"Unknown Content-Encoding {encoding!r}")


def quote(text: str) -> str:
    """A string literal of ClickHouse SQL."""
    return "'" + text.replace("\\", "\\\\").replace("'", "\\'") + "'"


def quote_name(name: str) -> str:
    """An identifier of ClickHouse SQL."""
    return "`" + name.replace("\\", "\\\\").replace("`", "\\`") + "`"


def _form_fields(content_type: str, body: bytes) -> Mapping[str, str]:
    parsed = email.parser.BytesParser().parsebytes(b"Content-Type: " + content_type.encode() + b"\r\n\r\n" + body)
    fields = {}
    for part in parsed.get_payload():
        name = part.get_param("name", header="content-disposition")  # type: ignore[union-attr]  # parts of a multipart
        if part.get_filename() is not None:  # type: ignore[union-attr]
            raise RequestError(501, 48, "External data is not supported. (NOT_IMPLEMENTED)")
        fields[str(name)] = part.get_payload(decode=True).decode("utf-8", "surrogateescape")  # type: ignore[union-attr]
    return fields
