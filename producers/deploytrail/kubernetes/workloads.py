"""Objects of the Kubernetes API read as workloads: what they run, and as whose. Pure; payloads may be of any shape.

https://kubernetes.io/docs/reference/kubernetes-api/workload-resources/
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from deploytrail._images import Image
from deploytrail.adapters.base import first, items, mapping, text

PERMIT = "deploytrail.dev/permit"
DEPLOYMENT_ID = "deploytrail.dev/deployment-id"
SERVICE = "deploytrail.dev/service"
# https://kubernetes.io/docs/concepts/overview/working-with-objects/common-labels/
_NAME, _APP, _VERSION = "app.kubernetes.io/name", "app", "app.kubernetes.io/version"
# Where the pod template of a kind lies; every other kind has it at spec.template.
_TEMPLATES: dict[str, tuple[str, ...]] = {
    "Pod": (),
    "CronJob": ("spec", "jobTemplate", "spec", "template"),
    "PodTemplate": ("template",),
}
_CONTAINERS = ("initContainers", "containers", "ephemeralContainers")
SYSTEM_NAMESPACES = frozenset({"kube-system", "kube-public", "kube-node-lease"})


@dataclass(frozen=True, slots=True)
class Workload:
    """What an object says of itself. `controller`: kind and name of the object that owns and made it; else empty."""

    kind: str
    namespace: str
    name: str
    uid: str
    generation: int
    images: tuple[Image, ...]
    labels: Mapping[str, Any]
    annotations: Mapping[str, Any]
    controller: str
    template: Mapping[str, Any]

    @property
    def path(self) -> str:
        """Namespace, kind and name: what people call it."""
        return f"{self.namespace}/{self.kind}/{self.name}"

    @property
    def service(self) -> str:
        """The service that it runs: by annotation, by label, else its own name."""
        return first(
            text(self.annotations, SERVICE), text(self.labels, _NAME), text(self.labels, _APP), self.name, "unknown"
        )

    @property
    def version(self) -> str:
        """Its version: by label, else the tag of its first image that has one."""
        return first(text(self.labels, _VERSION), *(image.tag for image in self.images))

    @property
    def permit(self) -> str:
        """The permit that it shows; empty where it shows none."""
        given = self.annotations.get(PERMIT)
        return given.strip() if isinstance(given, str) else ""


def read_workload(obj: object) -> Workload:
    """The workload of an object of any shape; one without images where there is no pod template."""
    kind = text(obj, "kind")
    meta = mapping(obj, "metadata")
    template = mapping(obj, *_TEMPLATES.get(kind, ("spec", "template")))
    generation = meta.get("generation")
    return Workload(
        kind=kind,
        namespace=text(meta, "namespace"),
        name=text(meta, "name") or text(meta, "generateName"),
        uid=text(meta, "uid"),
        generation=generation if isinstance(generation, int) and not isinstance(generation, bool) else 0,
        images=tuple(dict.fromkeys(Image(reference) for reference in _references(mapping(template, "spec")))),
        labels={**mapping(template, "metadata", "labels"), **mapping(meta, "labels")},
        annotations=mapping(meta, "annotations"),
        controller=_controller(meta),
        template=template,
    )


def environment_of(namespace: str, environments: Mapping[str, str], default: str) -> str:
    """The environment of a namespace. Never what the workload says: a permit for another one would fit then."""
    return environments.get(namespace) or default or "unknown"


def _references(spec: Mapping[str, Any]) -> Iterator[str]:
    for name in _CONTAINERS:
        yield from (text(container, "image") for container in items(spec, name) if text(container, "image"))
    for volume in items(spec, "volumes"):
        if reference := text(volume, "image", "reference"):
            yield reference


def _controller(meta: Mapping[str, Any]) -> str:
    for owner in items(meta, "ownerReferences"):
        if mapping(owner).get("controller") is True:
            return f"{text(owner, 'kind')}/{text(owner, 'name')}"
    return ""
