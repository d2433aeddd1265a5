"""What an S3 server's refusals mean for whoever asked: wait, mend a setting, or read what is there.

Codes: https://docs.aws.amazon.com/AmazonS3/latest/API/ErrorResponses.html#ErrorCodeList
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from botocore.exceptions import BotoCoreError, ClientError, NoCredentialsError, NoRegionError, PartialCredentialsError
from deploytrail_schemas.errors import ConfigurationError, RetryLater

from deploytrail_sinks.archive.store import ObjectExists, ObjectKept

# MethodNotAllowed: the version is a marker of deletion.
_ABSENT = {"NoSuchKey", "NoSuchVersion", "404", "MethodNotAllowed", "NoSuchObjectLockConfiguration"}
_BUSY = {"SlowDown", "Throttling", "ThrottlingException", "RequestLimitExceeded", "TooManyRequests", "429", "503"}
_STATUS_BUSY = {429, 503}
# Two requests for one name at once: the same again gets a clear answer.
_CONFLICTS = {"ConditionalRequestConflict", "OperationAborted"}
_REMEDIES = {
    "NoSuchBucket": "make the bucket, with versions and Object Lock on",
    "AccessDenied": "allow s3:PutObject, s3:PutObjectRetention, s3:PutObjectLegalHold, s3:GetObject*, "
    "s3:ListBucket and s3:ListBucketVersions; s3:BypassGovernanceRetention to make a lock firmer, and "
    "s3:PutObjectVersionTagging where there is none",
    "InvalidAccessKeyId": "check the credentials",
    "SignatureDoesNotMatch": "check the credentials",
    "ExpiredToken": "renew the credentials",
    "InvalidToken": "renew the credentials",
    "PermanentRedirect": "check the region",
    "AuthorizationHeaderMalformed": "check the region",
    "InvalidStorageClass": "check the tier of the retention policy",
    "ObjectLockConfigurationNotFoundError": "make the bucket with Object Lock on, or say lock=none",
    "InvalidBucketObjectLockConfiguration": "make the bucket with Object Lock on, or say lock=none",
}


@contextmanager
def asking(name: str, what: str) -> Iterator[None]:
    """Errors of boto3 as ours: KeyError, ObjectExists, ObjectKept, RetryLater or ConfigurationError.

    `what`: "NAME cannot be …".
    """
    try:
        yield
    except ClientError as error:
        raise _meaning(error, name, what) from error
    except (NoCredentialsError, PartialCredentialsError, NoRegionError) as error:
        raise ConfigurationError(f"{what}: {error}") from error
    except BotoCoreError as error:  # no connection, no answer in time, an answer that broke off
        raise RetryLater(f"{what}: {error}") from error


def _meaning(error: ClientError, name: str, what: str) -> Exception:
    said = error.response.get("Error", {})
    code, text = str(said.get("Code", "")), str(said.get("Message", ""))
    status = int(error.response.get("ResponseMetadata", {}).get("HTTPStatusCode", 0))
    answer = f"{what}: the store answers {status} {code}: {text}"
    if code == "PreconditionFailed" or status == 412:
        return ObjectExists(name)
    if code == "RequestTimeTooSkewed":
        return RetryLater(f"{answer} This machine's clock is off by more than the store allows: set it by NTP")
    if code == "AccessDenied" and "object lock" in text.lower():
        return ObjectKept(answer)
    if code in _ABSENT:
        return KeyError(name)
    if code in _BUSY or status in _STATUS_BUSY:
        return RetryLater(f"{answer} It asks for fewer requests")
    if code in _CONFLICTS or status >= 500 or code == "RequestTimeout":
        return RetryLater(answer)
    if code == "InvalidRequest" and "ObjectLock" in text.replace(" ", ""):
        code = "ObjectLockConfigurationNotFoundError"
    return ConfigurationError(f"{answer} ({_REMEDIES.get(code, 'mend what it names, and start again')})")
