"""The witness: cosigns what follows from what it remembers, and says why it does not."""

from __future__ import annotations

import urllib.error
import urllib.request
from base64 import b64encode
from collections.abc import Callable, Iterator
from pathlib import Path
from threading import Thread

import pytest
from deploytrail_schemas.errors import ConfigurationError
from deploytrail_sinks.archive.log.checkpoint import Checkpoint
from deploytrail_sinks.archive.log.cosigning import Cosigners
from deploytrail_sinks.archive.log.merkle import consistency_proof, leaf_hash, root_of
from deploytrail_sinks.archive.log.notes import KeyKind, Note, read_signature
from deploytrail_sinks.archive.log.tiles import RightEdge, Tree
from deploytrail_sinks.archive.log.trust import read_trust
from deploytrail_sinks.archive.log.witness import SIZE_TYPE, Answer, Witness, write_request
from deploytrail_sinks.archive.log.witness_server import server
from support.archive_log import LOG_KEY, NOW, ORIGIN, MemoryStore, key

LEAVES = [leaf_hash(b"%d" % number) for number in range(40)]
OWN = key("w.example.com", KeyKind.COSIGNER_ED25519)
STORE = MemoryStore()
EDGE = RightEdge()
for number, leaf in enumerate(LEAVES):
    for name, data in (*EDGE.append(b"%d" % number, leaf), *EDGE.partial()):
        STORE.objects[name] = data


def note(size: int, leaves: list[bytes] = LEAVES, signer: object = LOG_KEY, origin: str = ORIGIN) -> Note:
    text = Checkpoint(origin, size, root_of(leaves[:size])).text()
    return Note(text, (signer.sign(text, NOW),))  # type: ignore[attr-defined]


def request(old: int, of: Note, size: int) -> bytes:
    proof = consistency_proof(old, size, Tree(STORE.read, size).node) if old else ()
    return write_request(old, [b64encode(step).decode() for step in proof], of)


@pytest.fixture
def witness(tmp_path: Path) -> Witness:
    return Witness([OWN], [LOG_KEY.verifier], tmp_path, lambda: NOW)


def cosigned(answer: Answer, of: Note) -> bool:
    given = Note(of.text, tuple(map(read_signature, answer.body.removesuffix("\n").split("\n"))))
    return answer.status == 200 and OWN.verifier.signed(given) is not None


@pytest.mark.requirement("M5.1")
def test_a_witness_follows_a_log_that_grows(witness: Witness) -> None:
    for old, size in ((0, 3), (3, 3), (3, 8), (8, 40)):
        assert cosigned(witness.add_checkpoint(request(old, note(size), size)), note(size))
    remembered = witness.remembered(ORIGIN)

    assert remembered is not None
    assert remembered.size == 40


@pytest.mark.requirement("M5.1")
def test_a_witness_answers_as_the_specification_says(witness: Witness) -> None:
    witness.add_checkpoint(request(0, note(8), 8))
    other = [*LEAVES[:5], leaf_hash(b"other"), *LEAVES[6:]]
    proof_of_nothing = write_request(8, [b64encode(b"x" * 32).decode()] * 2, note(20))

    assert witness.add_checkpoint(request(0, note(20), 20)) == Answer(409, "8\n", SIZE_TYPE)
    assert witness.add_checkpoint(request(3, note(20), 20)) == Answer(409, "8\n", SIZE_TYPE)
    assert witness.add_checkpoint(write_request(8, [], note(8, other))).status == 409
    assert witness.add_checkpoint(write_request(8, [], note(5))).status == 400
    assert witness.add_checkpoint(proof_of_nothing).status == 422
    assert witness.add_checkpoint(request(8, note(20, other), 20)).status == 422
    assert witness.add_checkpoint(request(8, note(20, signer=key()), 20)).status == 403
    assert witness.add_checkpoint(write_request(0, [], note(8, origin="example.com/unknown"))).status == 404
    remembered = witness.remembered(ORIGIN)
    assert remembered is not None
    assert remembered.size == 8


def test_a_first_proof_must_be_empty(witness: Witness) -> None:
    assert witness.add_checkpoint(write_request(0, [b64encode(b"x" * 32).decode()], note(8))).status == 422


@pytest.mark.parametrize(
    "spoil",
    [
        lambda _: b"",
        lambda body: body.replace(b"old 0", b"old 00"),
        lambda body: body.replace(b"old 0", b"old -1"),
        lambda body: body.replace(b"old 0\n", b"old 0\nAAAA\n"),
        lambda body: body.replace(b"old 0\n", b"old 0\n" + (b64encode(b"x" * 32) + b"\n") * 64),
        lambda body: body.replace(b"\n\n", b"\n", 1),
        lambda body: body[:-1],
        lambda body: b"\xff" + body,
        lambda body: body + b"x" * 300_000,
    ],
)
def test_what_is_no_request_is_refused(witness: Witness, spoil: Callable[[bytes], bytes]) -> None:
    assert witness.add_checkpoint(spoil(request(0, note(8), 8))).status == 400
    assert witness.remembered(ORIGIN) is None


def test_a_witness_remembers_across_a_restart_and_stops_where_its_memory_is_damaged(tmp_path: Path) -> None:
    def started() -> Witness:
        return Witness([OWN], [LOG_KEY.verifier], tmp_path, lambda: NOW)

    started().add_checkpoint(request(0, note(8), 8))
    assert started().add_checkpoint(request(0, note(20), 20)).body == "8\n"
    next(tmp_path.glob("*.checkpoint")).write_bytes(b"damaged")
    with pytest.raises(ConfigurationError, match="restore it"):
        started().add_checkpoint(request(8, note(20), 20))


@pytest.fixture
def url(witness: Witness) -> Iterator[str]:
    listening = server(witness, "127.0.0.1", 0)
    thread = Thread(target=listening.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    yield f"http://127.0.0.1:{listening.server_address[1]}"
    listening.shutdown()
    listening.server_close()
    thread.join()


def cosigners(url: str, more: str = "") -> Cosigners:
    return Cosigners(
        read_trust(f"log {LOG_KEY.verifier}\nwitness w {OWN.verifier} {url}\n{more}quorum w\n"), STORE.read
    )


@pytest.mark.requirement("M5.1")
def test_cosignatures_are_fetched_whatever_the_witness_remembers(witness: Witness, url: str) -> None:
    of = cosigners(url)
    witness.add_checkpoint(request(0, note(5), 5))  # while we were away
    for size in (9, 9, 30):
        assert OWN.verifier.signed(of.cosign(note(size))) is not None
    assert OWN.verifier.signed(cosigners(url).cosign(note(40))) is not None


def test_another_history_gets_no_cosignature(witness: Witness, url: str, caplog: pytest.LogCaptureFixture) -> None:
    witness.add_checkpoint(request(0, note(20), 20))
    other = [*LEAVES[:5], leaf_hash(b"other"), *LEAVES[6:]]

    assert OWN.verifier.signed(cosigners(url).cosign(note(20, other))) is None
    assert OWN.verifier.signed(cosigners(url).cosign(note(10))) is None
    assert "refuses the tree of 10" in caplog.text


def test_a_witness_that_is_away_holds_up_no_other(url: str) -> None:
    away = key("away.example.com", KeyKind.COSIGNER_ED25519).verifier
    signed = cosigners(url, f"witness away {away} http://127.0.0.1:9\n").cosign(note(9))

    assert OWN.verifier.signed(signed) is not None
    assert away.signed(signed) is None


def test_the_server_knows_one_path_and_bounds_its_requests(url: str) -> None:
    def status(path: str, data: bytes | None, **headers: str) -> int:
        try:
            with urllib.request.urlopen(urllib.request.Request(url + path, data, headers), timeout=20) as answer:
                return int(answer.status)
        except urllib.error.HTTPError as error:
            return error.code

    assert status("/healthz", None) == 200
    assert status("/other", b"x") == 404
    assert status("/add-checkpoint", b"x") == 400
    assert status("/add-checkpoint", request(0, note(8), 8)) == 200
    assert status("/add-checkpoint", b"", **{"Content-Length": str(1 << 40)}) == 400
