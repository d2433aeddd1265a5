"""The manifests of deploy/: what Kubernetes and systemd read fits their schemas, and fits what our commands take."""

from __future__ import annotations

import argparse
import shutil
import ssl
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import kubernetes_validate
import pytest
import yaml
from cryptography import x509
from deploytrail import _agent
from deploytrail.kubernetes import admission_command, watch_command
from deploytrail.kubernetes.watch_state import COLLECTIONS
from deploytrail_schemas.settings import describe

DEPLOY = Path(__file__).parents[3] / "deploy"
FILES = sorted((DEPLOY / "kubernetes").glob("*.yaml"))
UNIT = DEPLOY / "systemd/deploytrail-agent.service"
SYSTEM = ["kube-system", "kube-public", "kube-node-lease"]
PARSERS: dict[str, Callable[[list[str]], argparse.Namespace]] = {
    "admission": lambda words: admission_command._parser().parse_args(words),
    "watch": lambda words: watch_command._parser().parse_args(words),
    "agent": _agent._options,
}


def documents(path: Path) -> list[dict[str, Any]]:
    return [document for document in yaml.safe_load_all(path.read_text("utf-8")) if document]


def of_kind(kind: str) -> list[dict[str, Any]]:
    return [document for path in FILES for document in documents(path) if document["kind"] == kind]


def pod_templates() -> Iterator[dict[str, Any]]:
    for kind in ("Deployment", "Job"):
        for document in of_kind(kind):
            yield document["spec"]["template"]


def containers() -> Iterator[dict[str, Any]]:
    for template in pod_templates():
        yield from template["spec"].get("initContainers", [])
        yield from template["spec"]["containers"]


def ours() -> list[dict[str, Any]]:
    return [container for container in containers() if "/deploytrail:" in container["image"]]


@pytest.mark.requirement("M8.6")
@pytest.mark.parametrize("version", ["1.30", "1.33", "1.37"])
@pytest.mark.parametrize("path", FILES, ids=lambda path: path.name)
def test_every_manifest_fits_the_schemas_of_kubernetes(path: Path, version: str) -> None:
    for document in documents(path):
        kubernetes_validate.validate(document, version, strict=True)


def test_a_misspelt_field_would_be_seen() -> None:
    [deployment] = [d for d in of_kind("Deployment") if d["metadata"]["name"] == "admission"]
    deployment["spec"]["template"]["spec"]["containers"][0]["readinesProbe"] = {}

    with pytest.raises(kubernetes_validate.ValidationError):
        kubernetes_validate.validate(deployment, "1.37", strict=True)


@pytest.mark.requirement("M8.6")
def test_commands_and_settings_of_the_manifests_are_ours() -> None:
    known = {name for name, *_ in describe()}
    words = [container["args"] for container in ours()]

    assert {argv[0] for argv in words} == {"admission", "agent", "watch"}
    for argv in words:
        PARSERS[argv[0]]([str(word) for word in argv[1:]])
    used = {env["name"] for container in containers() for env in container.get("env", [])}
    assert {name for name in used if name.startswith("DEPLOYTRAIL_")} <= known


def test_our_containers_have_no_rights_that_they_do_not_need() -> None:
    for container in ours():
        security = container["securityContext"]

        assert (security["allowPrivilegeEscalation"], security["readOnlyRootFilesystem"]) == (False, True)
        assert security["capabilities"] == {"drop": ["ALL"]}
        assert "memory" in container["resources"]["limits"]
    assert all(template["spec"]["securityContext"]["runAsNonRoot"] for template in pod_templates())


def test_what_is_mounted_is_there_and_what_is_selected_exists() -> None:
    for template in pod_templates():
        volumes = {volume["name"] for volume in template["spec"]["volumes"]}
        all_of_it = template["spec"]["containers"] + template["spec"].get("initContainers", [])
        assert {mount["name"] for one in all_of_it for mount in one.get("volumeMounts", [])} == volumes
    [service] = of_kind("Service")
    [budget] = of_kind("PodDisruptionBudget")
    [admission] = [d for d in of_kind("Deployment") if d["metadata"]["name"] == "admission"]
    labels = admission["spec"]["template"]["metadata"]["labels"]
    [container] = admission["spec"]["template"]["spec"]["containers"]

    assert service["spec"]["selector"].items() <= labels.items()
    assert budget["spec"]["selector"]["matchLabels"].items() <= labels.items()
    assert [port["targetPort"] for port in service["spec"]["ports"]] == [port["name"] for port in container["ports"]]
    assert [port["containerPort"] for port in container["ports"]] == [admission_command.PORT]


@pytest.mark.requirement("M5.4", "M8.6")
def test_the_webhook_fails_closed_in_regulated_namespaces_open_elsewhere_and_never_asks_about_kube_system() -> None:
    [configuration] = of_kind("ValidatingWebhookConfiguration")
    regulated, unregulated = configuration["webhooks"]
    [service] = of_kind("Service")

    assert (regulated["failurePolicy"], unregulated["failurePolicy"]) == ("Fail", "Ignore")
    assert regulated["namespaceSelector"]["matchLabels"] == {"deploytrail.dev/regulated": "true"}
    label = {"key": "deploytrail.dev/regulated", "operator": "NotIn", "values": ["true"]}
    assert label in unregulated["namespaceSelector"]["matchExpressions"]
    for webhook, path in ((regulated, "/regulated"), (unregulated, "/unregulated")):
        [names] = [
            one
            for one in webhook["namespaceSelector"]["matchExpressions"]
            if one["key"] == "kubernetes.io/metadata.name"
        ]
        assert names["operator"] == "NotIn"
        assert {*SYSTEM, service["metadata"]["namespace"]} == set(names["values"])
        assert webhook["clientConfig"]["service"] == {
            "namespace": service["metadata"]["namespace"],
            "name": service["metadata"]["name"],
            "path": path,
        }
        assert webhook["sideEffects"] == "NoneOnDryRun"
        assert webhook["admissionReviewVersions"] == ["v1"]
        assert 1 <= webhook["timeoutSeconds"] <= 5
        [condition] = webhook["matchConditions"]
        assert "system:serviceaccount:kube-system:" in condition["expression"]


@pytest.mark.requirement("M8.6")
def test_the_webhook_asks_about_workloads_and_never_about_their_scale_or_status() -> None:
    [configuration] = of_kind("ValidatingWebhookConfiguration")
    for webhook in configuration["webhooks"]:
        asked = {resource for rule in webhook["rules"] for resource in rule["resources"]}

        assert asked >= {path.rpartition("/")[2] for path in COLLECTIONS}
        assert not any("/" in resource or resource == "*" for resource in asked)
        assert {word for rule in webhook["rules"] for word in rule["operations"]} == {"CREATE", "UPDATE"}


@pytest.mark.requirement("M8.6")
def test_the_watch_may_read_what_it_watches_and_nothing_else() -> None:
    [role] = of_kind("ClusterRole")
    granted = {
        f"/{'apis/' + group if group else 'api'}/v1/{resource}"
        for rule in role["rules"]
        for group in rule["apiGroups"]
        for resource in rule["resources"]
    }

    assert granted == set(COLLECTIONS)
    assert all(rule["verbs"] == ["list", "watch"] for rule in role["rules"])


@pytest.mark.requirement("M3.1")
def test_the_sidecar_is_a_native_one_and_shares_its_spool_and_socket_with_the_script() -> None:
    [job] = of_kind("Job")
    spec = job["spec"]["template"]["spec"]
    [agent], [script] = spec["initContainers"], spec["containers"]

    assert agent["restartPolicy"] == "Always"
    assert agent["startupProbe"]["exec"]["command"][-1] in agent["args"]
    assert agent["volumeMounts"] == script["volumeMounts"]
    assert "emptyDir" in spec["volumes"][0]
    spool = next(env["value"] for env in script["env"] if env["name"] == "DEPLOYTRAIL_SPOOL")
    assert spool == agent["args"][agent["args"].index("--spool") + 1]


@pytest.mark.requirement("M8.6")
def test_the_certificate_that_is_made_is_for_the_service(tmp_path: Path) -> None:
    if shutil.which("openssl") is None:
        pytest.skip("openssl is not installed")
    script = DEPLOY / "kubernetes/certificate.sh"
    done = subprocess.run(["sh", str(script), str(tmp_path)], capture_output=True, text=True, timeout=60, check=True)
    ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER).load_cert_chain(tmp_path / "tls.crt", tmp_path / "tls.key")
    certificate = x509.load_pem_x509_certificate((tmp_path / "tls.crt").read_bytes())
    names = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    [service] = of_kind("Service")
    host = f"{service['metadata']['name']}.{service['metadata']['namespace']}.svc"

    assert host in names.get_values_for_type(x509.DNSName)
    assert (tmp_path / "tls.key").stat().st_mode & 0o077 == 0
    assert "create secret tls admission-tls" in done.stdout
    assert "PRIVATE KEY" not in done.stdout


@pytest.mark.requirement("M3.1")
def test_systemd_takes_the_unit(tmp_path: Path) -> None:
    if shutil.which("systemd-analyze") is None:
        pytest.skip("systemd-analyze is not installed")
    command = str(Path(sys.executable).parent / "deploytrail")
    text = UNIT.read_text("utf-8")
    unit = tmp_path / UNIT.name
    unit.write_text(text.replace("/opt/deploytrail/bin/deploytrail", command), "utf-8")
    words = ["systemd-analyze", "verify", "--man=no", str(unit)]
    done = subprocess.run(words, capture_output=True, text=True, timeout=60, check=False)
    said = [line for line in done.stderr.splitlines() if UNIT.name in line]
    start = next(line for line in text.splitlines() if line.startswith("ExecStart="))

    assert "/opt/deploytrail/bin/deploytrail agent" in start
    assert said == []
    PARSERS["agent"](start.split()[2:])


@pytest.mark.requirement("M3.1")
def test_the_unit_is_hardened() -> None:
    if shutil.which("systemd-analyze") is None:
        pytest.skip("systemd-analyze is not installed")
    words = ["systemd-analyze", "security", "--offline=true", "--threshold=20", str(UNIT)]
    done = subprocess.run(words, capture_output=True, text=True, timeout=60, check=False)

    assert done.returncode == 0, done.stdout[-300:]
