"""The gateway's description of itself is whole and valid; that it is true is tested with schemathesis (integration)."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from deploytrail import adapters
from deploytrail.gateway import serve_command
from deploytrail.gateway.app import create_app
from deploytrail.gateway.openapi import document
from deploytrail.gateway.publisher import MemoryPublisher
from deploytrail.gateway.signatures import SCHEMES
from deploytrail_schemas.settings import Settings
from jsonschema import Draft202012Validator
from openapi_spec_validator import OpenAPIV31SpecValidator
from starlette.routing import Match, Route
from starlette.testclient import TestClient

DESCRIBED = document()


def test_the_description_is_valid_openapi() -> None:
    OpenAPIV31SpecValidator(DESCRIBED).validate()


def test_every_route_is_described_and_every_description_served() -> None:
    app = create_app(Settings(), MemoryPublisher())
    routes = [route for route in app.routes if isinstance(route, Route)]
    served: set[str] = set()
    for path, operations in DESCRIBED["paths"].items():
        for method in operations:
            asked = {"type": "http", "method": method.upper(), "path": re.sub(r"\{(\w+)\}", r"\1", path)}
            found = [route.path for route in routes if route.matches(asked)[0] is Match.FULL]

            assert found, f"{method} {path} is described and not served"
            served.update(found)

    assert served == {route.path for route in routes}


def test_every_source_of_webhooks_is_described_with_what_signs_it() -> None:
    found = {path.removeprefix("/webhooks/") for path in DESCRIBED["paths"] if path.startswith("/webhooks/")}
    signed = {name for name in found if SCHEMES[adapters.load(name).signature].header}

    assert found == set(adapters.names())
    for name in signed:
        [proof] = DESCRIBED["paths"][f"/webhooks/{name}"]["post"]["security"][0]
        assert (
            DESCRIBED["components"]["securitySchemes"][proof]["name"] == SCHEMES[adapters.load(name).signature].header
        )


def test_every_answer_and_body_has_a_schema() -> None:
    for path, operations in DESCRIBED["paths"].items():
        for method, operation in operations.items():
            for status, answer in operation["responses"].items():
                content = resolved(answer)["content"]
                problem = int(status) >= 400 and path not in ("/readyz",)

                assert all("schema" in media for media in content.values()), f"{method} {path} {status}"
                assert ("application/problem+json" in content) is problem, f"{method} {path} {status}"
            if method == "post":
                assert all("schema" in media for media in operation["requestBody"]["content"].values())


def test_every_example_is_what_its_schema_says() -> None:
    found = list(examples(DESCRIBED))

    assert len(found) > 20
    for schema, example in found:
        whole = {"$schema": "https://json-schema.org/draft/2020-12/schema", "components": DESCRIBED["components"]}
        Draft202012Validator(whole | schema).validate(example)


def test_the_maps_of_a_gateway_are_named(tmp_path: Path) -> None:
    maps = tmp_path / "maps.yaml"
    maps.write_text("legacy: {columns: {service: App}}\n")
    client = TestClient(create_app(Settings(csv_maps=str(maps)), MemoryPublisher()))
    answer = client.get("/openapi.json")
    [name, *_] = answer.json()["paths"]["/v1/csv/{map}"]["post"]["parameters"]

    assert answer.headers["content-type"] == "application/json"
    assert name["schema"] == {"type": "string", "enum": ["legacy"]}


def test_the_command_prints_it(capsys: pytest.CaptureFixture[str]) -> None:
    assert serve_command.main(["--openapi"]) == 0
    assert json.loads(capsys.readouterr().out) == DESCRIBED


def test_another_method_is_answered_with_those_that_are_served() -> None:
    answer = TestClient(create_app(Settings(), MemoryPublisher())).put("/v1/events")

    assert answer.status_code == 405
    assert answer.headers["allow"] == "POST"


def resolved(node: Any) -> Any:
    """What a reference of the description stands for."""
    if "$ref" not in node:
        return node
    found: Any = DESCRIBED
    for step in node["$ref"].removeprefix("#/").split("/"):
        found = found[step]
    return found


def examples(node: Any) -> Iterator[tuple[dict[str, Any], Any]]:
    """(schema, example) of every schema, parameter and body."""
    if isinstance(node, list):
        for item in node:
            yield from examples(item)
    elif isinstance(node, dict):
        schema = node.get("schema")
        if isinstance(schema, dict):
            if "example" in node:
                yield schema, node["example"]
            for named in (node.get("examples") or {}).values():
                yield schema, named["value"]
        elif isinstance(node.get("examples"), list):
            yield from ((node, example) for example in node["examples"])
        for item in node.values():
            yield from examples(item)
