"""Check a proof bundle of `deploytrail archive prove`, alone: python verify_proof.py BUNDLE --trust FILE

Needs Python 3.11 and `cryptography`, reads two files, asks no network. What it shows, when it says that a proof holds:

1. The checkpoint (a log's name, size and root) is signed by a key of the log, and cosigned by as many of the
   witnesses, as the trust file asks for. A retired key counts for trees of up to its SIZE and beside witnesses only:
   alone, whoever stole it could sign any past. https://c2sp.org/signed-note https://c2sp.org/tlog-cosignature
2. Each record of the bundle, with its salt, makes the commitment that is the log's entry at an index, and that
   entry is in the tree of the root. https://www.rfc-editor.org/rfc/rfc9162#section-2.1.3.2
3. Each record speaks of the deployment that the bundle names.

So whoever holds the keys said so no later than the cosignatures' times, and cannot take it back. It does not show
that there is no further record of the deployment, nor that what was reported is true. Records are read by the schemas
that the bundle brings; a record names its schema by 64 bits only, so compare the digests that are printed with the
schemas that deploytrail publishes where it matters how a record is read.

Exit code 0: the proof holds; 1: it does not; 64: wrong arguments; 66: a file cannot be read.
"""

from __future__ import annotations

import argparse
import base64
import hashlib
import json
import struct
import sys
from datetime import UTC, datetime
from typing import Any

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

ED25519, COSIGNER_ED25519, COSIGNER_MLDSA44 = 0x01, 0x04, 0x06
LABEL, FORMAT = b"deploytrail record v1\n", "deploytrail-proof/1"
SALT_BYTES, LIMIT = 16, 256 << 20


class Refused(Exception):
    """Why a proof does not hold."""


# The trust file: who signs, who witnesses, how many of them must have (https://c2sp.org/tlog-policy)


class Key:
    """A key of the trust file: NAME+KEYID+BASE64. `end`: the largest tree that a retired one counts for."""

    def __init__(self, text: str, end: int | None = None) -> None:
        self.end = end
        self.name, key_id, encoded = text.split("+", 2)
        data = base64.b64decode(encoded, validate=True)
        self.kind, self.public = data[0], data[1:]
        self.key_id = hashlib.sha256(self.name.encode() + b"\n" + data).digest()[:4]
        if self.key_id.hex() != key_id:
            raise ValueError(f"the id of the key of {self.name} does not fit it")
        if self.kind not in (ED25519, COSIGNER_ED25519, COSIGNER_MLDSA44):
            raise ValueError(f"the key of {self.name} is of an unknown kind")

    def check(self, signature: bytes, text: str) -> int | None:
        """When the signature was made; None where it does not say. Refused where it is false."""
        time = None if self.kind == ED25519 else int.from_bytes(signature[:8], "big")
        signed = signature if time is None else signature[8:]
        try:
            if self.kind == COSIGNER_MLDSA44:
                from cryptography.hazmat.primitives.asymmetric.mldsa import MLDSA44PublicKey

                MLDSA44PublicKey.from_public_bytes(self.public).verify(signed, self._subtree(text, time or 0))
            else:
                message = text if time is None else f"cosignature/v1\ntime {time}\n{text}"
                Ed25519PublicKey.from_public_bytes(self.public).verify(signed, message.encode())
        except InvalidSignature:
            raise Refused(f"the signature of {self.name} below the checkpoint is false") from None
        return time

    def _subtree(self, text: str, time: int) -> bytes:
        origin, size, root = text.split("\n")[:3]
        name, log = self.name.encode(), origin.encode()
        parts = (b"subtree/v1\n\0", bytes([len(name)]), name, time.to_bytes(8, "big"), bytes([len(log)]), log)
        return b"".join(parts) + bytes(8) + int(size).to_bytes(8, "big") + base64.b64decode(root)


class Trust:
    """What the trust file says."""

    def __init__(self, text: str) -> None:
        self.logs: list[Key] = []
        self.witnesses: dict[str, Key] = {}
        self.groups: dict[str, tuple[int, list[str]]] = {}
        self.quorum = ""
        members_of: list[str] = []
        for line in text.split("\n"):
            match line.split():
                case ["#retired", key, size]:
                    self.logs.append(Key(key, int(size)))
                case words if not words or (words[0][0] == "#" and words[0] != "#retired"):
                    continue
                case ["log", key, *_]:
                    self.logs.append(Key(key))
                case ["witness", name, key, *_]:
                    self.witnesses[self._new(name)] = Key(key)
                case ["group", name, needed, *members] if members:
                    for member in members:
                        self._known(member)
                    count = len(members) if needed == "all" else 1 if needed == "any" else int(needed)
                    members_of += members
                    if not 1 <= count <= len(members) or len(set(members_of)) != len(members_of):
                        raise ValueError(f"group {name} cannot be met, or a member of it is in a group twice")
                    self.groups[self._new(name)] = count, members
                case ["quorum", name] if not self.quorum:
                    self.quorum = name if name == "none" else self._known(name)
                case _:
                    raise ValueError(f"line {line[:60]!r} is not understood")
        keys = [key.public for key in (*self.logs, *self.witnesses.values())]
        if len(set(keys)) != len(keys) or any(key.kind == ED25519 for key in self.witnesses.values()):
            raise ValueError("a key is there twice, or that of a witness signs no time")
        if not self.quorum:
            raise ValueError("there is no line `quorum NAME`")

    def _new(self, name: str) -> str:
        if name == "none" or name in self.witnesses or name in self.groups:
            raise ValueError(f"the name {name} is taken")
        return name

    def _known(self, name: str) -> str:
        if name not in self.witnesses and name not in self.groups:
            raise ValueError(f"{name} is not defined above")
        return name

    def is_enough(self, cosigned: dict[str, int | None], name: str = "") -> bool:
        """Whether these witnesses are the quorum, or a group of it."""
        name = name or self.quorum
        if name == "none":
            return True
        if name in self.witnesses:
            return name in cosigned
        needed, members = self.groups[name]
        return sum(self.is_enough(cosigned, member) for member in members) >= needed


# The checkpoint: what was signed (https://c2sp.org/tlog-checkpoint)


def check_checkpoint(note: str, trust: Trust) -> tuple[str, int, bytes, dict[str, int | None]]:
    """Origin, size, root and the witnesses with their times; Refused."""
    text, empty, below = note.rpartition("\n\n")
    text += "\n"
    lines = text.split("\n")
    if not empty or not below.endswith("\n") or len(lines) != 4 or not lines[0]:
        raise Refused("the checkpoint is no signed note of three lines")
    origin, size, root = lines[0], lines[1], from_base64(lines[2])
    if not size.isascii() or not size.isdigit() or str(int(size[:20])) != size or len(root) != 32:
        raise Refused("the checkpoint has no size and root")
    signatures: dict[tuple[str, bytes], bytes] = {}
    for line in below.removesuffix("\n").split("\n"):
        match line.split(" "):
            case ["—", name, encoded] if len(data := from_base64(encoded)) > 4:
                signatures[name, data[:4]] = data[4:]
            case _:
                raise Refused("the checkpoint has a line that is no signature")
    own = [key for key in trust.logs if key.name == origin and (key.name, key.key_id) in signatures]
    counts = [key for key in own if key.end is None or (int(size) <= key.end and trust.quorum != "none")]
    if not counts:
        why = " but one that is retired: have it proven again, by a newer checkpoint" if own else ""
        raise Refused(f"the checkpoint is signed by no trusted key of {origin}{why}")
    for key in counts:
        key.check(signatures[key.name, key.key_id], text)
    cosigned = {
        name: key.check(signatures[key.name, key.key_id], text)
        for name, key in trust.witnesses.items()
        if (key.name, key.key_id) in signatures
    }
    if not trust.is_enough(cosigned):
        raise Refused(f"cosigned by {', '.join(cosigned) or 'nobody'}, which is not the quorum {trust.quorum}")
    return origin, int(size), root, cosigned


# Records and the tree


def entry_of(record: dict[str, Any], salt: bytes) -> bytes:
    """The log's entry for a record: a commitment to its content, hidden by the salt."""
    names = ["headers", "key", "offset", "partition", "timestamp", "timestamp_type", "topic", "value"]
    if sorted(record) != names or len(salt) != SALT_BYTES:
        raise Refused(f"a record has not the fields {', '.join(names)}, or its salt is not {SALT_BYTES} bytes")
    committed = hashlib.sha256(LABEL + salt + canonical(record)).digest()
    position = {name: record[name] for name in ("offset", "partition", "topic")}
    return canonical({"commitment": base64.b64encode(committed).decode(), "kind": "record"} | position)


def canonical(value: Any) -> bytes:
    """RFC 8785 for what we have, strings, null and small integers: names (in ASCII) in order are enough."""
    refuse_floats(value)
    return json.dumps(value, ensure_ascii=False, sort_keys=True, separators=(",", ":")).encode()


def refuse_floats(value: Any) -> None:
    """Numbers that JSON does not give exactly have no place in a record."""
    if isinstance(value, float) or (isinstance(value, int) and abs(value) >= 1 << 53):
        raise Refused(f"a record holds the number {value}")
    for inner in value.values() if isinstance(value, dict) else value if isinstance(value, list) else ():
        refuse_floats(inner)


def hash_of(first: bytes, second: bytes = b"", prefix: bytes = b"\x01") -> bytes:
    """RFC 6962, 2.1: inner nodes begin with 1, leaves with 0."""
    return hashlib.sha256(prefix + first + second).digest()


def root_from(leaf: bytes, index: int, size: int, proof: list[bytes]) -> bytes:
    """The root that an inclusion proof leads to; Refused where it has the wrong length."""
    if not 0 <= index < size or any(len(step) != 32 for step in proof):
        raise Refused(f"there is no leaf {index} in a tree of {size}, or its proof is malformed")
    number, last, found = index, size - 1, leaf
    for step in proof:
        if last == 0:
            raise Refused(f"the proof of leaf {index} is too long")
        if number & 1 or number == last:
            found = hash_of(step, found)
            while not number & 1 and number:
                number, last = number >> 1, last >> 1
        else:
            found = hash_of(found, step)
        number, last = number >> 1, last >> 1
    if last:
        raise Refused(f"the proof of leaf {index} is too short")
    return found


def from_base64(text: str) -> bytes:
    """Bytes; Refused. One spelling only."""
    try:
        data = base64.b64decode(text, validate=True)
    except ValueError:
        data = b""
    if base64.b64encode(data).decode() != text:
        raise Refused(f"{text[:40]!r} is not base64, or not written as that is")
    return data


# What a record says: Avro (https://avro.apache.org/docs/current/specification/), as much of it as our schemas use


class Avro:
    """Reads one value of a schema. `left`: how many parts it may still have; a schema makes many out of no bytes."""

    def __init__(self, data: bytes) -> None:
        self.data, self.at, self.named, self.left = data, 0, dict[str, Any](), 64 + 8 * len(data)

    def take(self, count: int) -> bytes:
        if count < 0 or self.at + count > len(self.data):
            raise Refused("a record ends in the middle")
        self.at += count
        return self.data[self.at - count : self.at]

    def long(self) -> int:
        value = shift = 0
        while True:
            byte = self.take(1)[0]
            value |= (byte & 0x7F) << shift
            shift += 7
            if not byte & 0x80:
                return (value >> 1) ^ -(value & 1)
            if shift > 63:
                raise Refused("a record has a number without end")

    def read(self, schema: Any) -> Any:
        """A value; Refused."""
        self.left -= 1
        if self.left < 0:
            raise Refused("a record has more parts than its bytes can hold")
        if isinstance(schema, list):
            return self.read(schema[self.long()])
        kind = schema if isinstance(schema, str) else schema["type"]
        if isinstance(schema, dict) and "name" in schema:
            self.named[schema["name"]] = schema
        if kind in self.named and isinstance(schema, str):
            return self.read(self.named[kind])
        match kind:
            case "record":
                return {field["name"]: self.read(field["type"]) for field in schema["fields"]}
            case "enum":
                return schema["symbols"][self.long()]
            case "string":
                return self.take(self.long()).decode()
            case "bytes":
                return base64.b64encode(self.take(self.long())).decode()
            case "int" | "long":
                return self.long()
            case "boolean":
                return self.take(1) != b"\0"
            case "null":
                return None
            case "float" | "double":
                return struct.unpack("<f" if kind == "float" else "<d", self.take(4 if kind == "float" else 8))[0]
            case "array" | "map":
                return self.blocks(schema, kind == "map")
        raise Refused(f"a schema has the type {kind!r}")

    def blocks(self, schema: Any, is_map: bool) -> Any:
        pairs: list[Any] = []
        while count := self.long():
            if count < 0:
                count, _ = -count, self.long()
            for _ in range(count):
                key = self.read("string") if is_map else None
                pairs.append((key, self.read(schema["values" if is_map else "items"])))
        return dict(pairs) if is_map else [item for _, item in pairs]


def fingerprint(schema: str) -> bytes:
    """The Avro fingerprint (CRC-64-AVRO) of a schema in canonical form: a record names its schema by it."""
    value = empty = 0xC15D213AA4D7A795
    for byte in schema.encode():
        value ^= byte
        for _ in range(8):
            value = (value >> 1) ^ (empty & -(value & 1))
    return value.to_bytes(8, "little")


def fields_of(record: dict[str, Any], schemas: dict[str, str]) -> dict[str, Any]:
    """What a record says; Refused where its schema is not in the bundle.

    A value begins with c301 and the schema's fingerprint, or with 00 and its number in a schema registry.
    """
    value = from_base64(record["value"] or "")
    prefix = value[:10] if value[:2] == b"\xc3\x01" else value[:5]
    schema = schemas.get(prefix.hex(), "")
    if not schema or (len(prefix) == 10 and fingerprint(schema) != prefix[2:]):
        raise Refused(f"the schema of offset {record['offset']} of {record['topic']} is not in the bundle")
    reader = Avro(value[len(prefix) :])
    found: dict[str, Any] = reader.read(json.loads(schema))
    if reader.at != len(reader.data):
        raise Refused(f"offset {record['offset']} of {record['topic']} has bytes behind its end")
    return found


def check_bundle(bundle: Any, trust: Trust) -> list[str]:
    """What the bundle proves, line by line; Refused."""
    try:
        if bundle["format"] != FORMAT:
            raise Refused(f"format {bundle['format']!r}; this file reads {FORMAT}")
        origin, size, root, cosigned = check_checkpoint(bundle["checkpoint"], trust)
        said = [f"checkpoint of {origin}, {size} entries, signed"]
        for name, time in cosigned.items():
            said.append(f"cosigned by {name} at {datetime.fromtimestamp(time or 0, UTC).isoformat()}")
        if not bundle["records"]:
            raise Refused("the bundle proves no record")
        for schema in bundle["schemas"].values():
            said.append(f"schema {json.loads(schema)['name']}, sha256 {hashlib.sha256(schema.encode()).hexdigest()}")
        for row in bundle["records"]:
            record, index = row["record"], row["index"]
            entry = entry_of(record, from_base64(row["salt"]))
            if root_from(hash_of(entry, prefix=b"\x00"), index, size, [from_base64(p) for p in row["proof"]]) != root:
                raise Refused(f"offset {record['offset']} of {record['topic']} is not in the log at index {index}")
            fields = fields_of(record, bundle["schemas"])
            if fields.get("deployment_id") != bundle["deployment"]:
                raise Refused(f"offset {record['offset']} of {record['topic']} is of another deployment")
            told = json.dumps({k: v for k, v in fields.items() if v not in (None, "", [], {})}, ensure_ascii=True)
            said.append(f"{record['topic']}/{record['partition']}@{record['offset']} is entry {index}: {told}")
    except (KeyError, TypeError, ValueError, AttributeError, IndexError, OverflowError, RecursionError) as error:
        raise Refused(f"the bundle is malformed: {type(error).__name__}: {error}") from error
    return said


def say(text: str) -> None:
    """Print a line. What is no plain letter is written out: a bundle must not steer a terminal or add lines."""
    sys.stdout.write("".join(c if " " <= c <= "~" else f"\\u{ord(c):04x}" for c in text) + "\n")


def main(argv: list[str]) -> int:
    """The exit code."""
    parser = argparse.ArgumentParser(prog="verify_proof.py", description="Check a proof bundle, offline.")
    parser.add_argument("bundle", metavar="BUNDLE", help="file of `deploytrail archive prove`")
    parser.add_argument("--trust", metavar="FILE", required=True, help="whom to trust: keys of log and witnesses")
    try:
        options = parser.parse_args(argv)
    except SystemExit as error:
        return 64 if error.code else 0
    read: list[Any] = []
    try:
        for path, make in ((options.bundle, json.loads), (options.trust, Trust)):
            with open(path, encoding="utf-8") as file:  # noqa: PTH123  # plain
                read.append(make(file.read(LIMIT)))
    except (OSError, ValueError, RecursionError) as error:
        sys.stderr.write(f"verify_proof: {path} cannot be read: {getattr(error, 'strerror', None) or error}\n")
        return 66
    try:
        said = check_bundle(*read)
    except Refused as error:
        say(f"REFUSED: {error}")
        return 1
    count, name = len(read[0]["records"]), read[0]["deployment"]
    for line in (*said, f"the proof holds: {count} record{'s' * (count > 1)} of deployment {name!r}"):
        say(line)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
