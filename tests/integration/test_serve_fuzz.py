"""Ten thousand requests, most of them malformed, made from the server's own description by schemathesis: none is an error of ours. ``-s`` shows the figures."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from importlib.util import find_spec
from typing import Any

import pytest

import ibllm
from tests.serve.load import picture

from .needs import needs
from .serving import trained

OPERATIONS = ("generate", "caption", "ask", "roundtrip", "score")
#: Requests of each operation: as the description has them, and otherwise.
REQUESTS = {"POSITIVE": 200, "NEGATIVE": 1_800}


@pytest.fixture(scope="module")
def client(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    needs("schemathesis (pip install schemathesis)", find_spec("schemathesis") is not None)
    from ibllm_serve.app import application
    from ibllm_serve.engine import Engine
    from ibllm_serve.settings import Settings
    from starlette.testclient import TestClient

    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("IBLLM_BLOCK", "rehearsal,report")
        engine = Engine(ibllm.open(trained(tmp_path_factory.mktemp("fuzz"))))
    with TestClient(application(engine, Settings(), "tiny", []), base_url="http://localhost", raise_server_exceptions=False) as client:
        yield client


@pytest.mark.parametrize("mode", REQUESTS)
@pytest.mark.parametrize("operation", OPERATIONS)
def test_no_request_is_an_error_of_ours(client: Any, operation: str, mode: str) -> None:
    import schemathesis
    from hypothesis import HealthCheck, Phase, given, settings

    schema = schemathesis.openapi.from_dict(client.get("/openapi.json").json())
    cases = schema[f"/v1/{operation}"]["POST"].as_strategy(generation_mode=schemathesis.GenerationMode[mode])
    statuses: Counter[int] = Counter()
    image = picture((9, 7), 0)

    @settings(max_examples=REQUESTS[mode], deadline=None, database=None, phases=[Phase.generate], suppress_health_check=list(HealthCheck))
    @given(cases)
    def ask(case: Any) -> None:
        if mode == "POSITIVE" and case.body.get("image") is not None:
            case.body["image"] = image  # base64 of nothing is no image
        answer = client.request(**sent(case))
        statuses[answer.status_code] += 1
        assert answer.status_code < 500, answer.text
        assert answer.status_code == 200 or set(answer.json()) == {"error"}

    ask()
    print(f"{operation}, {mode.lower()}: {statuses.total()} requests, {dict(sorted(statuses.items()))}")
    assert statuses.total() >= REQUESTS[mode]


def sent(case: Any) -> dict[str, Any]:
    """A case as the client sends it."""
    taken = ("method", "url", "headers", "params", "json", "content", "data")
    given = case.as_transport_kwargs(base_url="http://localhost")
    return {key: value for key, value in given.items() if key in taken and value is not None}
