"""Objects of the Kubernetes API for tests, after its documented shapes."""

from __future__ import annotations

from typing import Any

from support.permits import DIGEST

IMAGE = f"registry.example/shop/checkout:4.2.0@{DIGEST}"
LABELS = {"app.kubernetes.io/name": "checkout"}


def template(*images: str) -> dict[str, Any]:
    """A pod template with a container for each image."""
    containers = [{"name": f"c{number}", "image": image} for number, image in enumerate(images or [IMAGE])]
    return {"metadata": {"labels": LABELS}, "spec": {"containers": containers}}


def workload(
    kind: str = "Deployment",
    *images: str,
    permit: str = "",
    generation: int = 1,
    namespace: str = "shop",
    name: str = "checkout",
    meta: dict[str, Any] | None = None,
    spec: dict[str, Any] | None = None,
    annotations: dict[str, str] | None = None,
) -> dict[str, Any]:
    """A workload of any kind, its pod template where that kind has it."""
    made = template(*images)
    said = dict(annotations or {})
    if permit:
        said["deploytrail.dev/permit"] = permit
    head = {
        "name": name,
        "namespace": namespace,
        "uid": f"uid-{namespace}-{kind}-{name}",
        "generation": generation,
        "labels": LABELS,
        "annotations": said,
        **(meta or {}),
    }
    body: dict[str, Any] = {"replicas": 2, "template": made}
    if kind == "Pod":
        body = made["spec"]
    elif kind == "CronJob":
        body = {"schedule": "0 4 * * *", "jobTemplate": {"spec": {"template": made}}}
    version = {"Pod": "v1", "Job": "batch/v1", "CronJob": "batch/v1"}.get(kind, "apps/v1")
    return {"apiVersion": version, "kind": kind, "metadata": head, "spec": body | (spec or {})}


def request(
    new: dict[str, Any] | None, old: dict[str, Any] | None = None, user: str = "alice", **more: Any
) -> dict[str, Any]:
    """The request of an AdmissionReview: CREATE, or UPDATE where there is an old object."""
    new = new or {}
    meta = new.get("metadata", {})
    found: dict[str, Any] = {
        "uid": "705ab4f5-6393-11e8-b7cc-42010a800002",
        "kind": {"group": "apps", "version": "v1", "kind": new.get("kind", "")},
        "resource": {"group": "apps", "version": "v1", "resource": "deployments"},
        "name": meta.get("name", ""),
        "namespace": meta.get("namespace", ""),
        "operation": "UPDATE" if old else "CREATE",
        "userInfo": {"username": user, "groups": ["system:authenticated"]},
        "object": new,
        "oldObject": old,
        "dryRun": False,
    }
    return found | more


def review(asked: dict[str, Any]) -> dict[str, Any]:
    """The AdmissionReview of a request."""
    return {"apiVersion": "admission.k8s.io/v1", "kind": "AdmissionReview", "request": asked}
