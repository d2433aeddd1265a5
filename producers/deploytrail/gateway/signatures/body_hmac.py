"""HMACs of the body alone, written in hexadecimal: GitHub, PagerDuty, CircleCI, Bitbucket, Jira, Terraform, …

They say who wrote the body, not when: the memory of delivery ids refuses what comes a second time.
"""

from __future__ import annotations

import hmac
from collections.abc import Callable, Sequence
from typing import Literal

from deploytrail.gateway.signatures.scheme import Delivery, is_any

# A header of more signatures than this is nobody's rotation.
MAX_SIGNATURES = 16


def hex_hmac(
    header: str, prefix: str = "", *, digest: Literal["sha256", "sha512"] = "sha256", is_list: bool = False
) -> Callable[[Delivery, Sequence[str]], bool]:
    """The check of `header: PREFIXhex`; of a list, separated by commas, one signature that fits is enough."""

    def check(delivery: Delivery, secrets: Sequence[str]) -> bool:
        given = delivery.headers.get(header, "")
        shown = [part.strip() for part in given.split(",", MAX_SIGNATURES)[:MAX_SIGNATURES]] if is_list else [given]
        expected = [prefix + hmac.new(secret.encode(), delivery.body, digest).hexdigest() for secret in secrets]
        return any([is_any(one, expected) for one in shown])

    return check


# https://docs.github.com/en/webhooks/using-webhooks/validating-webhook-deliveries
is_github = hex_hmac("x-hub-signature-256", "sha256=")
# https://developer.pagerduty.com/docs/verifying-webhook-signatures
is_pagerduty = hex_hmac("x-pagerduty-signature", "v1=", is_list=True)
# https://circleci.com/docs/guides/integration/outbound-webhooks/#validate-webhooks
is_circleci = hex_hmac("circleci-signature", "v1=", is_list=True)
# https://support.atlassian.com/bitbucket-cloud/docs/manage-webhooks/#Secure-webhooks and
# https://developer.atlassian.com/cloud/jira/platform/webhooks/ (both by https://www.w3.org/TR/websub/#signing-content)
is_hub_signature = hex_hmac("x-hub-signature", "sha256=")
# https://developer.hashicorp.com/terraform/enterprise/api-docs/notification-configurations#notification-authenticity
is_terraform_cloud = hex_hmac("x-tfe-notification-signature", digest="sha512")
# https://docs.sentry.io/organization/integrations/integration-platform/webhooks/; its timestamp is not signed.
is_sentry = hex_hmac("sentry-hook-signature")
# https://fluxcd.io/flux/components/notification/providers/#generic-webhook-with-hmac
is_flux = hex_hmac("x-signature", "sha256=")
