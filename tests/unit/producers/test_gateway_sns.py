"""Messages of SNS: only what AWS has signed for a topic of ours is taken, and only AWS is ever asked."""

from __future__ import annotations

import asyncio
import base64
import dataclasses
import json
import threading
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from functools import cache
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.hazmat.primitives.asymmetric.padding import PKCS1v15
from deploytrail.gateway import signatures
from deploytrail.gateway.app import create_app
from deploytrail.gateway.publisher import MemoryPublisher
from deploytrail.gateway.signatures import Delivery, sns
from deploytrail.gateway.signatures.sns_fetch import MOST_FETCHED, NotThere, Sns, fetch
from deploytrail_schemas.errors import ConfigurationError, RetryLater
from deploytrail_schemas.settings import Settings
from hypothesis import given
from hypothesis import strategies as st
from starlette.testclient import TestClient

NOON = datetime(2026, 11, 2, 12, 0, tzinfo=UTC)
TOPIC = "arn:aws:sns:eu-west-1:111122223333:deployments"
CERTIFICATE = "https://sns.eu-west-1.amazonaws.com/SimpleNotificationService-0123456789abcdef0123456789abcdef.pem"
TOKEN = "2336412f37fb687f5d51e6e2425e9"  # of a subscription that there is not
DEPLOYMENT = "d-XK4RZQ7WM"  # no part of an id of ours can be the same
BEARER = "api-destination-7f3a91c2"
EVENT = {
    "detail-type": "CodeDeploy Deployment State-change Notification",
    "account": "111122223333",
    "region": "eu-west-1",
    "time": "2026-11-02T12:00:00Z",
    "detail": {"deploymentId": DEPLOYMENT, "application": "shop", "deploymentGroup": "production", "state": "SUCCESS"},
}
DIGESTS: dict[str, hashes.HashAlgorithm] = {"1": hashes.SHA1(), "2": hashes.SHA256()}  # SNS's own choice


@cache
def key() -> rsa.RSAPrivateKey:
    return rsa.generate_private_key(65537, 2048)


@cache
def pem(begins: datetime = NOON - timedelta(days=9), ends: datetime = NOON + timedelta(days=90)) -> bytes:
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "sns.amazonaws.com")])
    made = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key().public_key())
        .serial_number(7)
        .not_valid_before(begins)
        .not_valid_after(ends)
        .sign(key(), hashes.SHA256())
    )
    return made.public_bytes(serialization.Encoding.PEM)


def signed(message: dict[str, Any]) -> dict[str, Any]:
    digest = DIGESTS[message["SignatureVersion"]]
    signature = key().sign(sns.text_to_sign(message), PKCS1v15(), digest)
    return message | {"Signature": base64.b64encode(signature).decode()}


def notification(at: datetime = NOON, version: str = "2", **more: Any) -> dict[str, Any]:
    message = {
        "Type": "Notification",
        "MessageId": "22b80b92-fdea-4c2c-8f9d-bdfb0c7bf324",
        "TopicArn": TOPIC,
        "Message": json.dumps(EVENT),
        "Timestamp": at.isoformat(timespec="milliseconds").replace("+00:00", "Z"),
        "SignatureVersion": version,
        "SigningCertURL": CERTIFICATE,
    }
    return signed(message | more)


def subscription_url(host: str = "sns.eu-west-1.amazonaws.com", topic: str = TOPIC, token: str = TOKEN) -> str:
    return f"https://{host}/?{urlencode({'Action': 'ConfirmSubscription', 'TopicArn': topic, 'Token': token})}"


def subscription(at: datetime = NOON, **more: Any) -> dict[str, Any]:
    url = subscription_url()
    return notification(
        at, Type="SubscriptionConfirmation", Message="You have chosen", Token=TOKEN, **{"SubscribeURL": url} | more
    )


class Aws:
    """What a fetcher of the tests is asked for, and what it answers."""

    def __init__(self, answer: Callable[[str], bytes] = lambda _: pem()) -> None:
        self.asked: list[str] = []
        self._answer = answer

    def __call__(self, url: str) -> bytes:
        self.asked.append(url)
        return self._answer(url)


def delivery(message: Any, at: datetime = NOON, **headers: str) -> Delivery:
    return Delivery(json.dumps(message).encode(), headers, at.timestamp())


def is_taken(message: Any, *, aws: Aws | None = None, at: datetime = NOON, secret: str = TOPIC) -> bool:
    return asyncio.run(Sns(aws or Aws()).check(delivery(message, at), [secret]))


@pytest.mark.requirement("M2.6")
@pytest.mark.parametrize("version", ["1", "2"])
@pytest.mark.parametrize("more", [{}, {"Subject": "Shop · ümläut\nsecond line"}])
def test_what_sns_has_signed_is_taken(version: str, more: dict[str, str]) -> None:
    assert is_taken(notification(version=version, **more))


def test_the_signed_text_is_that_of_the_published_steps() -> None:
    message = {"Type": "Notification", "MessageId": "m", "TopicArn": "t", "Message": "hello", "Timestamp": "now"}

    assert (
        sns.text_to_sign(message) == b"Message\nhello\nMessageId\nm\nTimestamp\nnow\nTopicArn\nt\nType\nNotification\n"
    )
    assert b"Message\nhello\nMessageId\nm\nSubject\ns\nTimestamp\n" in sns.text_to_sign(message | {"Subject": "s"})
    assert sns.text_to_sign(message | {"Type": "SubscriptionConfirmation", "SubscribeURL": "u", "Token": "k"}) == (
        b"Message\nhello\nMessageId\nm\nSubscribeURL\nu\nTimestamp\nnow\nToken\nk\nTopicArn\nt\n"
        b"Type\nSubscriptionConfirmation\n"
    )


@pytest.mark.requirement("M2.6")
@pytest.mark.parametrize("name", ["Message", "MessageId", "Timestamp", "Type", "Signature", "SignatureVersion"])
@pytest.mark.parametrize("change", ["changed", "missing"])
def test_what_was_changed_is_refused(name: str, change: str) -> None:
    message = notification()
    other = {"Timestamp": "2026-11-02T12:00:01.000Z", "Type": "UnsubscribeConfirmation", "SignatureVersion": "1"}
    message[name] = other.get(name, "e30=") if change == "changed" else None

    assert not is_taken(message)


def test_a_subject_that_was_not_signed_is_refused() -> None:
    assert not is_taken(notification() | {"Subject": "new"})


def test_a_topic_that_is_not_ours_is_refused_without_asking_anybody() -> None:
    aws = Aws()

    assert not is_taken(notification(TopicArn=TOPIC.replace("1111", "9999")), aws=aws)
    assert aws.asked == []


@pytest.mark.parametrize(
    ("minutes", "taken"), [(-4, True), (-6, False), (0, True), (60, True), (66, False), (60 * 24, False)]
)
def test_a_message_is_taken_as_long_as_sns_repeats_it(minutes: int, taken: bool) -> None:
    assert is_taken(notification(), at=NOON + timedelta(minutes=minutes)) is taken


@pytest.mark.parametrize(
    ("begins", "ends"),
    [(NOON - timedelta(days=9), NOON - timedelta(days=1)), (NOON + timedelta(days=1), NOON + timedelta(days=9))],
)
def test_a_certificate_that_does_not_hold_proves_nothing(begins: datetime, ends: datetime) -> None:
    assert not is_taken(notification(), aws=Aws(lambda _: pem(begins, ends)))


def test_another_key_proves_nothing() -> None:
    message = notification()
    other = rsa.generate_private_key(65537, 2048)
    signature = other.sign(sns.text_to_sign(message), PKCS1v15(), hashes.SHA256())

    assert not is_taken(message | {"Signature": base64.b64encode(signature).decode()})


FOREIGN = [
    CERTIFICATE.replace("https", "http"),
    CERTIFICATE.replace("amazonaws.com", "amazonaws.com.evil.example"),
    CERTIFICATE.replace("amazonaws.com", "amazonaws.com:8443"),
    CERTIFICATE.replace("sns.", "user@sns."),
    CERTIFICATE.replace("sns.", "evil.example@sns."),
    CERTIFICATE.replace("sns.", "evil.example\\@sns."),
    CERTIFICATE.replace("sns.", "evil.example#sns."),
    CERTIFICATE.replace("sns.eu-west-1", "sns.s3"),
    CERTIFICATE.replace("sns.eu-west-1", "sns.s3-eu-west-1"),
    CERTIFICATE.replace("sns.eu-west-1", "sns.eu-west-1.x"),
    CERTIFICATE.replace("sns.eu-west-1", "bucket.s3.eu-west-1"),
    CERTIFICATE.replace("/Simple", "/x/../Simple"),
    CERTIFICATE.replace(".pem", ".pem?x=1"),
    CERTIFICATE.replace(".pem", ".pem#x"),
    CERTIFICATE.replace(".pem", ".pem\n"),
    CERTIFICATE.replace("eu", "ｅｕ"),
    "https://sns.eu-west-1.amazonaws.com/?Action=Publish",
    "https://[::1]/SimpleNotificationService-0.pem",
    "https://[/SimpleNotificationService-0.pem",
    "",
]


def ssrf_targets() -> list[str]:
    path = Path(__file__).parents[4] / "shared/fixtures/security/ssrf_targets.json"
    return json.loads(path.read_text("utf-8"))["refuse"] if path.is_file() else []


@pytest.mark.requirement("M2.6")
@pytest.mark.parametrize("url", FOREIGN)
def test_nobody_but_sns_is_asked_for_a_certificate(url: str) -> None:
    aws = Aws()

    assert not is_taken(notification(SigningCertURL=url), aws=aws)
    assert aws.asked == []


@pytest.mark.requirement("M2.6")
@pytest.mark.parametrize("name", ["SigningCertURL", "SubscribeURL"])
def test_no_target_within_our_network_is_ever_asked(name: str) -> None:
    if not (targets := ssrf_targets()):
        pytest.skip("../shared/fixtures/security is missing")
    for url in targets:
        aws = Aws()
        service = Sns(aws)
        asked = delivery(subscription(**{name: url}))

        assert asyncio.run(service.confirm(asked, [TOPIC])) == ""
        assert [other for other in aws.asked if other != CERTIFICATE] == []


def test_regions_of_china_and_of_governments_are_sns_too() -> None:
    for host in (
        "sns.cn-north-1.amazonaws.com.cn",
        "sns.us-gov-west-1.amazonaws.com",
        "sns.ap-southeast-2.amazonaws.com",
    ):
        url = CERTIFICATE.replace("sns.eu-west-1.amazonaws.com", host)

        assert sns.certificate_url({"SigningCertURL": url}) == url


@given(st.text())
def test_no_text_is_taken_for_a_url_of_sns(text: str) -> None:
    assert sns.certificate_url({"SigningCertURL": text}) == ""
    assert sns.certificate_url({"SigningCertURL": "https://" + text}) == ""


def test_a_certificate_is_fetched_once_a_day() -> None:
    now = [0.0]
    aws = Aws()
    service = Sns(aws, lambda: now[0])

    async def many() -> list[bool]:
        return await asyncio.gather(*(service.check(delivery(notification()), [TOPIC]) for _ in range(30)))

    assert asyncio.run(many()) == [True] * 30
    assert aws.asked == [CERTIFICATE]
    now[0] = 24 * 3600 + 1
    assert asyncio.run(many()) == [True] * 30
    assert len(aws.asked) == 2


def test_other_requests_go_on_while_a_certificate_is_fetched() -> None:
    has_gone_on = threading.Event()

    def slow(url: str) -> bytes:
        assert has_gone_on.wait(60), f"nothing went on while {url} was fetched"
        return pem()

    async def both() -> bool:
        checked = asyncio.create_task(Sns(slow).check(delivery(notification()), [TOPIC]))
        await asyncio.sleep(0.05)  # it is being fetched
        has_gone_on.set()
        return await checked

    assert asyncio.run(both())


def test_what_is_not_there_is_asked_for_again_after_a_minute() -> None:
    def missing(url: str) -> bytes:
        raise NotThere("it answered 404")

    now = [0.0]
    aws = Aws(missing)
    service = Sns(aws, lambda: now[0])
    for _ in range(3):
        assert not asyncio.run(service.check(delivery(notification()), [TOPIC]))
    assert len(aws.asked) == 1
    now[0] = 61.0
    assert not asyncio.run(service.check(delivery(notification()), [TOPIC]))

    assert len(aws.asked) == 2


@pytest.mark.parametrize(
    "body", [b"", b"no certificate", b"-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n"]
)
def test_what_is_no_certificate_proves_nothing(body: bytes) -> None:
    assert not is_taken(notification(), aws=Aws(lambda _: body))


def test_nobody_makes_us_ask_all_the_time() -> None:
    aws = Aws()
    service = Sns(aws, lambda: 0.0)
    for number in range(MOST_FETCHED):
        url = CERTIFICATE.replace("0123", f"{number:04}")
        assert asyncio.run(service.check(delivery(notification(SigningCertURL=url)), [TOPIC]))

    with pytest.raises(RetryLater, match="too often"):
        asyncio.run(service.check(delivery(notification()), [TOPIC]))


@pytest.mark.requirement("M2.6")
def test_a_token_is_taken_and_the_name_of_a_topic_is_none() -> None:
    service = Sns(Aws())

    async def with_token(token: str) -> bool:
        return await service.check(delivery(EVENT, authorization=f"Bearer {token}"), [TOPIC, BEARER])

    assert asyncio.run(with_token(BEARER))
    assert not asyncio.run(with_token(TOPIC))
    assert not asyncio.run(with_token("another-token-of-somebody"))


@pytest.mark.parametrize(
    "secret",
    ["arn:aws:sqs:eu-west-1:111122223333:queue", "arn:aws:sns:eu-west-1:111122223333:*", "arn:aws:sns:::x", "short"],
)
def test_a_secret_that_allows_nothing_is_refused_at_the_start(secret: str) -> None:
    with pytest.raises(ConfigurationError, match="the secret of aws is"):
        create_app(Settings(webhook_secrets=f"aws={secret}"), MemoryPublisher())


@pytest.fixture
def aws(monkeypatch: pytest.MonkeyPatch) -> Aws:
    today = datetime.now(UTC).replace(microsecond=0)  # the app has the real clock
    asked = Aws(lambda _: pem(today - timedelta(days=1), today + timedelta(days=1)))
    service = Sns(asked)
    scheme = dataclasses.replace(signatures.SCHEMES["sns"], check=service.check, answer=service.confirm)
    monkeypatch.setitem(signatures.SCHEMES, "sns", scheme)
    return asked


def post(message: Any, secret: str = TOPIC, **headers: str) -> tuple[int, dict[str, Any], MemoryPublisher]:
    publisher = MemoryPublisher()
    client = TestClient(create_app(Settings(webhook_secrets=f"aws={secret}"), publisher), client=("127.0.0.1", 1))
    answer = client.post("/webhooks/aws", content=json.dumps(message), headers=headers)
    return answer.status_code, answer.json(), publisher


def now() -> datetime:
    return datetime.now(UTC).replace(microsecond=0)


def test_the_gateway_takes_a_signed_message_and_records_who_said_it(aws: Aws) -> None:
    status, answer, publisher = post(notification(now()), **{"content-type": "text/plain; charset=UTF-8"})

    assert (status, answer["accepted"]) == (202, 1)
    assert len(publisher.records) == 1


def test_the_gateway_refuses_what_is_not_signed(aws: Aws) -> None:
    for message in (notification(now()) | {"Message": "{}"}, EVENT, notification(now()) | {"Signature": ""}):
        status, answer, publisher = post(message)

        assert status == 401
        assert "SNS" in answer["detail"]
        [refusal] = publisher.records
        assert b"webhook:aws" in refusal.value
        assert DEPLOYMENT.encode() not in refusal.value


def test_raw_delivery_is_not_signed_and_needs_the_token(aws: Aws) -> None:
    raw = {"x-amz-sns-rawdelivery": "true", "x-amz-sns-topic-arn": TOPIC}

    assert post(EVENT, **raw)[0] == 401
    assert post(EVENT, f"{TOPIC},{BEARER}", authorization=f"Bearer {BEARER}", **raw)[0] == 202


def test_a_message_that_sns_repeats_is_accepted_once(aws: Aws) -> None:
    publisher = MemoryPublisher()
    client = TestClient(create_app(Settings(webhook_secrets=f"aws={TOPIC}"), publisher), client=("127.0.0.1", 1))
    body = json.dumps(notification(now()))
    first, again = (client.post("/webhooks/aws", content=body).json() for _ in range(2))

    assert (first["accepted"], again["accepted"], again["repeated"]) == (1, 0, True)


@pytest.mark.requirement("M2.6")
def test_nothing_beside_the_signed_message_is_taken_from_it(aws: Aws) -> None:
    forged = EVENT | {"detail": EVENT["detail"] | {"state": "FAILURE", "application": "forged"}}
    within = notification(now()) | {"Records": [{"Sns": {"Message": json.dumps(forged)}}], **forged}
    status, answer, publisher = post(within)

    assert (status, answer["accepted"]) == (202, 1)
    assert b"forged" not in publisher.records[0].value
    form = notification(now()) | {"x": f"&payload={json.dumps(forged)}&"}
    assert post(form, **{"content-type": "application/x-www-form-urlencoded"})[0] == 401


@pytest.mark.requirement("M2.6")
def test_a_subscription_of_an_allowed_topic_is_confirmed(aws: Aws) -> None:
    message = subscription(now())
    status, answer, _ = post(message)

    assert (status, answer["accepted"]) == (202, 0)
    assert answer["ignored"] == f"the subscription of {TOPIC} is confirmed"
    assert aws.asked == [CERTIFICATE, message["SubscribeURL"]]


@pytest.mark.requirement("M2.6")
@pytest.mark.parametrize(
    "more",
    [
        {"SubscribeURL": "https://evil.example/?Action=ConfirmSubscription"},
        {"SubscribeURL": "https://sns.eu-west-1.amazonaws.com/?Action=Publish&TopicArn=x"},
        {"SubscribeURL": "https://sns.us-east-1.amazonaws.com/?Action=ConfirmSubscription&TopicArn=x&Token=y"},
        {"SubscribeURL": subscription_url(host="sns.us-east-1.amazonaws.com")},
        {"SubscribeURL": subscription_url(topic=TOPIC + "x")},
        {"SubscribeURL": subscription_url(token="of-another")},
        {"SubscribeURL": subscription_url() + "&Action=Publish"},
        {"SubscribeURL": subscription_url().replace("/?", "/x?")},
        {"SubscribeURL": "http://169.254.169.254/latest/meta-data/"},
        {"SubscribeURL": "file:///etc/passwd"},
        {"Type": "UnsubscribeConfirmation"},
    ],
)
def test_no_other_url_of_a_subscription_is_asked(aws: Aws, more: dict[str, str]) -> None:
    message = subscription(now())
    status, answer, _ = post(signed(message | more))

    assert (status, answer["accepted"]) == (202, 0)
    assert "is no event" in answer["ignored"]
    assert aws.asked == [CERTIFICATE]


@pytest.mark.requirement("M2.6")
def test_a_subscription_that_nobody_has_signed_is_not_confirmed(aws: Aws) -> None:
    unsigned = subscription(now()) | {"Signature": "e30="}

    assert post(unsigned)[0] == 401
    _, answer, _ = post(unsigned, f"{TOPIC},{BEARER}", authorization=f"Bearer {BEARER}")
    assert answer["ignored"].startswith("SubscriptionConfirmation")
    assert set(aws.asked) == {CERTIFICATE}


def test_without_a_secret_no_subscription_is_confirmed(aws: Aws) -> None:
    publisher = MemoryPublisher()
    client = TestClient(create_app(Settings(), publisher), client=("127.0.0.1", 1))
    answer = client.post("/webhooks/aws", content=json.dumps(subscription(now())))

    assert answer.status_code == 202
    assert "DEPLOYTRAIL_WEBHOOK_SECRETS" in answer.json()["ignored"]
    assert aws.asked == []


def test_while_sns_does_not_answer_it_is_asked_to_send_again(monkeypatch: pytest.MonkeyPatch) -> None:
    def away(url: str) -> bytes:
        raise OSError("no route to host")

    scheme = dataclasses.replace(signatures.SCHEMES["sns"], check=Sns(Aws(away)).check)
    monkeypatch.setitem(signatures.SCHEMES, "sns", scheme)
    status, answer, publisher = post(notification(now()))

    assert (status, publisher.records) == (503, [])
    assert "no route to host" in answer["detail"]


class Elsewhere(BaseHTTPRequestHandler):
    """/moved points to /there, /large never ends, /broken fails."""

    def do_GET(self) -> None:
        if self.path == "/moved":
            self.send_response(302)
            self.send_header("Location", "/there")
            self.end_headers()
            return
        self.send_response({"/broken": 500, "/missing": 404}.get(self.path, 200))
        self.end_headers()
        self.wfile.write(b"x" * (100_000 if self.path == "/large" else 5))

    def log_message(self, *_: Any) -> None:
        pass


@pytest.fixture
def elsewhere() -> Iterator[str]:
    server = HTTPServer(("127.0.0.1", 0), Elsewhere)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    thread.join(10)
    server.server_close()


def test_fetching_follows_no_redirect_and_has_an_end(elsewhere: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("no_proxy", "127.0.0.1")

    assert fetch(f"{elsewhere}/there") == b"xxxxx"
    for path, said in (("moved", "302"), ("missing", "404"), ("large", "more than")):
        with pytest.raises(NotThere, match=said):
            fetch(f"{elsewhere}/{path}")
    with pytest.raises(OSError, match="500"):
        fetch(f"{elsewhere}/broken")
