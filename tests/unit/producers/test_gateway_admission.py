"""Admission: a new image in a regulated namespace needs a permit for it; nothing else is ever stopped."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from deploytrail._images import Image
from deploytrail.kubernetes.admission import AdmissionPolicy, AdmissionVerdict, Uses, answer, decide, record_of
from deploytrail.kubernetes.workloads import read_workload
from deploytrail_schemas.codec import encode
from deploytrail_schemas.json_values import validate
from deploytrail_schemas.reasons import AdmissionReason as Why
from deploytrail_schemas.reasons import PermitRefusal as No
from deploytrail_schemas.records import RecordType
from hypothesis import given
from hypothesis import strategies as st
from support.kubernetes import IMAGE, request, template, workload
from support.permits import AUTHORITY, DIGEST, NOON, OTHER_DIGEST, OTHER_KEY, permit

OTHER_IMAGE = f"registry.example/shop/checkout@{OTHER_DIGEST}"
SIDECAR = "registry.example/platform/proxy:1"
CONTROLLER = "system:serviceaccount:kube-system:replicaset-controller"
OWNED = {"ownerReferences": [{"kind": "ReplicaSet", "name": "checkout-7d", "controller": True}]}
POLICY = AdmissionPolicy(AUTHORITY, "eu-west-1", "production", "prod-1", exempt_images=("registry.example/platform/*",))
GOOD = permit()


def judge(
    asked: dict[str, Any], *, regulated: bool = True, used: Uses | None = None, **policy: Any
) -> AdmissionVerdict:
    return decide(asked, replace(POLICY, **policy), regulated=regulated, now=NOON + 60, used=used or {})


PASSES: dict[str, tuple[dict[str, Any], Why]] = {
    "scale": (request({"kind": "Scale", "spec": {"replicas": 9}}, workload(), subResource="scale"), Why.NOT_A_ROLLOUT),
    "status": (request(workload("Deployment", OTHER_IMAGE), workload(), subResource="status"), Why.NOT_A_ROLLOUT),
    "replicas": (request(workload(spec={"replicas": 9}), workload()), Why.NO_NEW_IMAGE),
    "labels": (request(workload(meta={"labels": {"a": "b"}}), workload()), Why.NO_NEW_IMAGE),
    "one image fewer": (request(workload(), workload("Deployment", IMAGE, OTHER_IMAGE)), Why.NO_NEW_IMAGE),
    "pod of a controller": (request(workload("Pod", meta=OWNED), user=CONTROLLER), Why.MADE_BY_CONTROLLER),
    "pod of the manager": (
        request(workload("Pod", meta=OWNED), user="system:kube-controller-manager"),
        Why.MADE_BY_CONTROLLER,
    ),
    "mirror of a static pod": (
        request(
            workload("Pod", annotations={"kubernetes.io/config.mirror": "x"}),
            userInfo={"username": "system:node:a", "groups": ["system:nodes"]},
        ),
        Why.MADE_BY_CONTROLLER,
    ),
    "kube-system": (request(workload(namespace="kube-system")), Why.SYSTEM_NAMESPACE),
    "sidecar of the platform": (request(workload("Deployment", IMAGE, SIDECAR), workload()), Why.EXEMPT_IMAGES),
    "deletion": (request(None, workload(), operation="DELETE"), Why.NOT_A_ROLLOUT),
    "configuration": (request({"kind": "ConfigMap", "data": {"image": IMAGE}}), Why.NOT_A_ROLLOUT),
    "with a permit": (request(workload(permit=GOOD)), Why.PERMIT_HOLDS),
    "with a permit, beside a sidecar": (request(workload("Deployment", IMAGE, SIDECAR, permit=GOOD)), Why.PERMIT_HOLDS),
    "update with a permit": (
        request(workload(permit=GOOD), workload("Deployment", OTHER_IMAGE)),
        Why.PERMIT_HOLDS,
    ),
}  # fmt: skip
STOPPED: dict[str, tuple[dict[str, Any], No]] = {
    "no permit": (request(workload()), No.NO_PERMIT),
    "update without": (request(workload(), workload("Deployment", OTHER_IMAGE)), No.NO_PERMIT),
    "pod that calls itself owned": (request(workload("Pod", meta=OWNED)), No.NO_PERMIT),
    "pod of another's controller": (
        request(workload("Pod", meta=OWNED), user="system:serviceaccount:shop:replicaset-controller"),
        No.NO_PERMIT,
    ),
    "pod of a controller without an owner": (request(workload("Pod"), user=CONTROLLER), No.NO_PERMIT),
    "init container": (
        request(workload(spec={"template": {"spec": {"initContainers": [{"image": IMAGE}]}}})),
        No.NO_PERMIT,
    ),
    "image volume": (
        request(workload(spec={"template": {"spec": {"volumes": [{"image": {"reference": IMAGE}}]}}})),
        No.NO_PERMIT,
    ),
    "tag without a digest": (
        request(workload("Deployment", "registry.example/shop/checkout:4.2.0", permit=GOOD)),
        No.NO_DIGEST,
    ),
    "another image": (request(workload("Deployment", OTHER_IMAGE, permit=GOOD)), No.OTHER_ARTIFACT),
    "another image beside it": (
        request(workload("Deployment", IMAGE, OTHER_IMAGE, permit=GOOD)),
        No.OTHER_ARTIFACT,
    ),
    "expired": (request(workload(permit=permit(iat=NOON - 800, nbf=NOON - 800, exp=NOON - 1))), No.EXPIRED),
    "another environment": (request(workload(permit=permit(environment="staging"))), No.OTHER_ENVIRONMENT),
    "another service": (request(workload(permit=permit(service="cart"))), No.OTHER_SERVICE),
    "another region": (request(workload(permit=permit(region="us-east-1"))), No.OTHER_REGION),
    "another deployment": (
        request(workload(permit=GOOD, annotations={"deploytrail.dev/deployment-id": "checkout-43"})),
        No.OTHER_DEPLOYMENT,
    ),
    "signed by somebody else": (request(workload(permit=permit(OTHER_KEY))), No.WRONG_SIGNATURE),
}


@pytest.mark.requirement("M5.4", "M8.6")
@pytest.mark.parametrize("case", PASSES)
def test_what_needs_no_permit_or_has_one_passes(case: str) -> None:
    asked, why = PASSES[case]
    verdict = judge(asked)

    assert (verdict.allowed, verdict.reason, verdict.problems) == (True, why, ())


@pytest.mark.requirement("M5.4", "M8.6")
@pytest.mark.parametrize("case", STOPPED)
def test_a_new_image_without_its_permit_is_stopped(case: str) -> None:
    asked, why = STOPPED[case]
    verdict = judge(asked)

    assert not verdict.allowed
    assert [problem.reason for problem in verdict.problems] == [why]


@pytest.mark.requirement("M8.6")
@pytest.mark.parametrize("case", STOPPED)
def test_elsewhere_the_same_passes_with_a_word(case: str) -> None:
    asked, _ = STOPPED[case]
    verdict = judge(asked, regulated=False)
    response = answer(asked, verdict)["response"]

    assert (verdict.allowed, verdict.reason, verdict.is_recorded) == (True, Why.NOT_REGULATED, False)
    assert len(response.get("warnings", [])) == len(verdict.problems)


@pytest.mark.requirement("M5.4")
@pytest.mark.parametrize(
    "kind", ["Deployment", "StatefulSet", "DaemonSet", "ReplicaSet", "Job", "CronJob", "Pod", "Rollout"]
)
def test_every_kind_of_workload_is_judged(kind: str) -> None:
    assert not judge(request(workload(kind))).allowed
    assert judge(request(workload(kind, permit=GOOD))).allowed


@pytest.mark.requirement("M8.6")
def test_namespaces_of_the_settings_are_regulated_without_a_label_and_kube_system_never() -> None:
    names = frozenset({"shop", "kube-system"})
    verdicts = [
        judge(request(workload(namespace=name)), regulated=False, regulated_namespaces=names).allowed
        for name in ("shop", "lab", "kube-system")
    ]

    assert verdicts == [False, True, True]


@pytest.mark.requirement("M8.6")
def test_without_keys_it_fails_closed_there_and_open_elsewhere() -> None:
    asked = request(workload(permit=GOOD))
    verdicts = [judge(asked, regulated=regulated, authority=None) for regulated in (True, False)]

    assert [verdict.allowed for verdict in verdicts] == [False, True]
    assert [problem.reason for problem in verdicts[0].problems] == [No.NO_KEYS]


def test_the_environment_is_the_namespaces_whatever_the_workload_says() -> None:
    lab = permit(environment="lab")
    asked = request(workload(permit=lab, annotations={"deploytrail.dev/environment": "lab"}))

    assert not judge(asked).allowed
    assert judge(asked, environments={"shop": "lab"}).allowed


def test_controllers_of_the_settings_may_make_pods_of_what_they_own() -> None:
    asked = request(workload("ReplicaSet", meta=OWNED), user="system:serviceaccount:argo-rollouts:argo-rollouts")

    assert not judge(asked).allowed
    assert judge(asked, controllers=("system:serviceaccount:argo-rollouts:*",)).reason is Why.MADE_BY_CONTROLLER


@pytest.mark.requirement("M5.4")
def test_a_permit_serves_one_change_of_a_workload_however_often_the_api_server_asks() -> None:
    def roll_out(generation: int) -> dict[str, Any]:
        return request(workload(permit=GOOD), workload("Deployment", OTHER_IMAGE, generation=generation))

    first = judge(roll_out(5))
    assert first.use is not None
    used = dict([first.use])
    again, later = judge(roll_out(5), used=used), judge(roll_out(7), used=used)
    beside = judge(request(workload(permit=GOOD, name="checkout-worker")), used=used)

    assert (again.allowed, beside.allowed) == (True, True)
    assert [problem.reason for problem in later.problems] == [No.ALREADY_USED]


@pytest.mark.requirement("M8.6")
def test_a_dry_run_is_judged_and_leaves_nothing() -> None:
    for asked in (request(workload(permit=GOOD), dryRun=True), request(workload(), dryRun=True)):
        verdict = judge(asked)

        assert (verdict.use, verdict.is_recorded, record_of(asked, verdict, POLICY, 1)) == (None, False, None)
    assert not judge(request(workload(), dryRun=True)).allowed


def test_the_answer_tells_every_reason_under_the_id_of_the_request() -> None:
    asked = request(workload(permit=permit(service="cart", environment="staging")))
    review = answer(asked, judge(asked))

    assert (review["apiVersion"], review["kind"]) == ("admission.k8s.io/v1", "AdmissionReview")
    assert (review["response"]["uid"], review["response"]["allowed"]) == (asked["uid"], False)
    assert review["response"]["status"]["code"] == 403
    assert "other_service: is for the service 'cart'; this is 'checkout'" in review["response"]["status"]["message"]
    assert "other_environment" in review["response"]["status"]["message"]
    assert review["response"]["auditAnnotations"] == {"reason": "permit_refused", "permit": "permit-1"}


@pytest.mark.requirement("M5.4")
def test_a_used_permit_and_a_refusal_are_records() -> None:
    good, bad = request(workload(permit=GOOD)), request(workload(), user="mallory")
    used, refused = (record_of(asked, judge(asked), POLICY, NOON * 1_000_000) for asked in (good, bad))
    assert used is not None and refused is not None

    assert all(encode(RecordType.APPROVAL, value) for value in (used, refused))
    assert [validate(RecordType.APPROVAL, value)[1] for value in (used, refused)] == [[], []]
    assert (used["approval_type"], used["deployment_id"], used["artifact_digest"], used["change_ticket"]) == (
        "permit_used",
        "checkout-42",
        DIGEST,
        "CHG0031337",
    )
    assert used["tags"] == {
        "permit_id": "permit-1",
        "cluster": "prod-1",
        "namespace": "shop",
        "workload": "Deployment/checkout",
        "operation": "CREATE",
        "user": "alice",
    }
    assert (refused["approval_type"], refused["tags"]["reasons"], refused["tags"]["user"]) == (
        "rejected",
        "no_permit",
        "mallory",
    )
    assert GOOD not in str(used)


def test_an_image_is_read_by_its_parts() -> None:
    images = [Image(text) for text in (IMAGE, "localhost:5000/shop/cart:1", "localhost:5000/cart", "nginx")]

    assert [(image.name, image.tag, image.digest) for image in images] == [
        ("registry.example/shop/checkout", "4.2.0", DIGEST),
        ("localhost:5000/shop/cart", "1", ""),
        ("localhost:5000/cart", "", ""),
        ("nginx", "", ""),
    ]


def test_a_service_is_named_by_annotation_label_or_the_workload_itself() -> None:
    bare = {"kind": "Deployment", "metadata": {"name": "cart"}, "spec": {"template": {"spec": {}}}}
    named = workload(annotations={"deploytrail.dev/service": "shop-checkout"})

    assert [read_workload(obj).service for obj in (named, workload(name="x"), bare, None)] == [
        "shop-checkout",
        "checkout",
        "cart",
        "unknown",
    ]


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=8,
)
NAMES = ("object", "oldObject", "namespace", "operation", "userInfo", "subResource", "dryRun", "uid")


@given(st.dictionaries(st.sampled_from(NAMES), JSON | st.just(workload()) | st.just("CREATE")), st.booleans())
def test_no_request_of_any_shape_crashes_the_judge(asked: dict[str, Any], regulated: bool) -> None:
    verdict = judge(asked, regulated=regulated)

    assert verdict.allowed or (regulated and verdict.problems)
    assert answer(asked, verdict)["response"]["allowed"] is verdict.allowed


@given(JSON, JSON)
def test_no_object_of_any_shape_crashes_the_reader(meta: Any, spec: Any) -> None:
    read = read_workload({"kind": "Deployment", "metadata": meta, "spec": spec})

    assert isinstance(read.images, tuple)
    assert read_workload(template()).images == ()
