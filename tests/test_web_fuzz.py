"""The API as its own description has it, with requests that schemathesis makes up."""

from __future__ import annotations

from collections.abc import MutableMapping

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from served import client, survey
from served import settings as served_settings

schemathesis = pytest.importorskip("schemathesis", reason="needs the package schemathesis")

pytestmark = pytest.mark.slow


def test_no_request_made_up_from_the_description_fails(
    tmp_path_factory: pytest.TempPathFactory,
) -> None:
    from schemathesis.checks import not_a_server_error
    from schemathesis.specs.openapi.checks import (
        content_type_conformance,
        response_schema_conformance,
        status_code_conformance,
    )

    checks = [
        not_a_server_error,
        content_type_conformance,
        response_schema_conformance,
        status_code_conformance,
    ]
    folder = survey(tmp_path_factory.mktemp("web"))
    with client(served_settings(folder)) as web:
        document = web.get("/openapi.json").json()
        token = web.get("/api/info").json()["csrf"]
        web.post(
            "/api/questions", json={"name": "edge on"}, headers={"X-Skytwin-Token": token}
        ).raise_for_status()
        schema = schemathesis.openapi.from_dict(document)
        asked: set[int] = set()
        for operation in (found.ok() for found in schema.get_all_operations()):

            @given(case=operation.as_strategy(), known=st.booleans())
            @settings(
                max_examples=25,
                deadline=None,
                suppress_health_check=list(HealthCheck),
                database=None,
            )
            def check(case: object, known: bool) -> None:
                if known:  # else nearly all identifiers are of nothing
                    for place, name, value in (
                        ("query", "like", ["g01"]),
                        ("path_parameters", "id", "g02"),
                        ("query", "columns", ["mag"]),
                        ("path_parameters", "question", "edge on"),
                        ("body", "object", "g03"),
                        ("body", "answer", "yes"),
                    ):
                        part = getattr(case, place)
                        if isinstance(part, MutableMapping) and name in part:
                            part[name] = value
                given_ = case.as_transport_kwargs(base_url="http://127.0.0.1:8000")  # type: ignore[attr-defined]
                headers = {**(given_.pop("headers") or {}), "X-Skytwin-Token": token}
                given_.pop("cookies", None)
                if isinstance(given_.get("data"), bytes):
                    given_["content"] = given_.pop("data")
                answer = web.request(headers=headers, **given_)
                asked.add(answer.status_code)
                assert answer.status_code < 500, answer.text
                case.validate_response(answer, checks=checks)  # type: ignore[attr-defined]

            check()
    assert {200, 400, 404} <= asked
