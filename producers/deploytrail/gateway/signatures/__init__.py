"""Signatures of deliveries, checked in constant time. Pure but for `sns_fetch`: time is an argument.

Each check takes every current secret, so that secrets can be rotated without losing a delivery.
A source names its scheme in `Source.signature`.
"""

from __future__ import annotations

from deploytrail.gateway.signatures import body_hmac, body_jwt, shown, sns, sns_fetch, timed_hmac
from deploytrail.gateway.signatures.body_hmac import is_github
from deploytrail.gateway.signatures.scheme import TOLERANCE_SECONDS, Delivery, Scheme
from deploytrail.gateway.signatures.shown import is_bearer
from deploytrail.gateway.signatures.timed_hmac import is_standard_webhook

__all__ = [
    "SCHEMES",
    "TOLERANCE_SECONDS",
    "Delivery",
    "Scheme",
    "is_bearer",
    "is_github",
    "is_standard_webhook",
    "secrets_of",
]


def secrets_of(setting: str) -> list[str]:
    """The secrets of a setting: several, separated by commas, while one is being replaced."""
    return [secret.strip() for secret in setting.split(",") if secret.strip()]


SCHEMES = {
    "basic": Scheme("the user and password of Basic authentication", shown.is_basic, shown.is_no_basic),
    "bearer": Scheme("the bearer token", shown.is_bearer_delivery),
    "buildkite": Scheme(
        "X-Buildkite-Signature or X-Buildkite-Token",
        timed_hmac.is_buildkite,
        header="X-Buildkite-Signature",
        is_timed=True,
    ),
    "circleci": Scheme("circleci-signature", body_hmac.is_circleci, header="circleci-signature"),
    "datadog_api_key": Scheme("DD-API-KEY", shown.is_datadog),
    "flux": Scheme("X-Signature", body_hmac.is_flux, header="X-Signature"),
    "github": Scheme("X-Hub-Signature-256", body_hmac.is_github, header="X-Hub-Signature-256"),
    "gitlab": Scheme(
        "X-Gitlab-Token or the webhook-signature",
        timed_hmac.is_gitlab,
        timed_hmac.is_no_gitlab,
        header="webhook-signature",
        is_timed=True,
    ),
    "grafana": Scheme(
        "X-Grafana-Alerting-Signature", timed_hmac.is_grafana, header="X-Grafana-Alerting-Signature", is_timed=True
    ),
    "hub_signature": Scheme("X-Hub-Signature", body_hmac.is_hub_signature, header="X-Hub-Signature"),
    "jwt": Scheme(
        "the JSON Web Token with the digest of the body", body_jwt.is_jwt, header="X-Webhook-Signature", is_timed=True
    ),
    "pagerduty": Scheme("X-PagerDuty-Signature", body_hmac.is_pagerduty, header="X-PagerDuty-Signature"),
    "sentry": Scheme("Sentry-Hook-Signature", body_hmac.is_sentry, header="Sentry-Hook-Signature"),
    "slack": Scheme("X-Slack-Signature", timed_hmac.is_slack, header="X-Slack-Signature", is_timed=True),
    "sns": Scheme(
        "the SNS message's signature, or the bearer token",
        sns_fetch.SNS.check,
        sns.is_no_topic,
        answer=sns_fetch.SNS.confirm,
    ),
    "standard_webhooks": Scheme(
        "the Standard Webhooks signature",
        timed_hmac.is_standard_webhook,
        timed_hmac.is_no_standard_webhook,
        header="webhook-signature",
        is_timed=True,
    ),
    "terraform_cloud": Scheme(
        "X-TFE-Notification-Signature", body_hmac.is_terraform_cloud, header="X-TFE-Notification-Signature"
    ),
}
