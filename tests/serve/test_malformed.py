"""Requests that are wrong in every way the description allows to think of: each is the asker's fault, in the one form. `tests/integration` has more."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.serve.conftest import StandIn, encoded

VALID: dict[str, dict[str, Any]] = {
    "generate": {"text": "a", "n": 1, "seed": 0, "best_of": 1, "by": "reading", "guidance": None, "temperature": None, "steps": None},
    "caption": {"image": encoded(), "n": 1, "seed": 0, "temperature": 0.0, "top_p": 1.0, "beams": None, "length_exponent": None},
    "ask": {"image": encoded(), "question": "what?", "seed": 0, "temperature": 1.0},
    "roundtrip": {"text": "a", "image": None, "seed": 0},
    "score": {"image": encoded(), "text": "a"},
}
values = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.text()
    | st.sampled_from(["\0", "\ud800", "a" * 3000, encoded()[:-9], -1, 2**70]),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=5,
)


@pytest.fixture(scope="module")
def described() -> Any:
    from ibllm_serve.app import application
    from ibllm_serve.settings import Settings
    from starlette.testclient import TestClient

    from tests.serve.conftest import Quiet

    with TestClient(
        application(Quiet(StandIn()), Settings(), "stand-in", []), base_url="http://localhost", raise_server_exceptions=False
    ) as client:  # type: ignore[arg-type]
        yield client


@settings(max_examples=40, deadline=None, derandomize=True, suppress_health_check=list(HealthCheck))
@given(st.data())
@pytest.mark.parametrize("path", VALID)
def test_no_request_is_an_error_of_ours(described, path, data):
    body = dict(VALID[path])
    for name in data.draw(st.sets(st.sampled_from(sorted(body)), max_size=2)):
        if data.draw(st.booleans()):
            body[name] = data.draw(values)
        else:
            del body[name]
    if data.draw(st.integers(0, 9)) == 0:
        body[data.draw(st.text())] = data.draw(values)
    answer = described.post(f"/v1/{path}", content=json.dumps(body), headers={"Content-Type": "application/json"})
    assert answer.status_code in (200, 400, 413, 422), answer.text
    if answer.status_code != 200:
        assert set(answer.json()) == {"error"} and set(answer.json()["error"]) == {"code", "message"}


@settings(max_examples=40, deadline=None, derandomize=True, suppress_health_check=list(HealthCheck))
@given(st.binary(max_size=200), st.sampled_from(["application/json", "text/plain", "image/png", ""]))
def test_no_body_is_an_error_of_ours(described, body, kind):
    answer = described.post("/v1/generate", content=body, headers={"Content-Type": kind})
    assert answer.status_code in (400, 422) and set(answer.json()) == {"error"}
