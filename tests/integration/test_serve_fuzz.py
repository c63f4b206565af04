"""Ten thousand requests, most of them malformed, made from the server's own description by schemathesis: none is an error of ours. ``-s`` shows the figures."""

from __future__ import annotations

from collections import Counter
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest

import ibllm

from .needs import needs
from .serving import trained

REQUESTS = 10_000


def test_no_request_is_an_error_of_ours(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    needs("schemathesis (pip install schemathesis)", find_spec("schemathesis") is not None)
    import schemathesis
    from hypothesis import HealthCheck, Phase, settings
    from ibllm_serve.app import application
    from ibllm_serve.engine import Engine
    from ibllm_serve.settings import Settings
    from starlette.testclient import TestClient

    monkeypatch.setenv("IBLLM_BLOCK", "rehearsal,report")
    app = application(Engine(ibllm.open(trained(tmp_path))), Settings(), "tiny", [])
    statuses: Counter[int] = Counter()
    failed: list[str] = []
    with TestClient(app, base_url="http://localhost", raise_server_exceptions=False) as client:
        schema = schemathesis.openapi.from_dict(client.get("/openapi.json").json())
        operations = [each.ok() for each in schema.get_all_operations()]
        posts = [each for each in operations if each.method.upper() == "POST"]
        for operation in posts:
            for mode, share in ((schemathesis.GenerationMode.NEGATIVE, 0.9), (schemathesis.GenerationMode.POSITIVE, 0.1)):
                case_of = operation.as_strategy(generation_mode=mode)
                count = round(REQUESTS * share / len(posts))

                def ask(case: Any) -> None:
                    answer = client.request(**sent(case))
                    statuses[answer.status_code] += 1
                    if answer.status_code >= 500 or (answer.status_code >= 400 and set(answer.json()) != {"error"}):
                        failed.append(f"{case.method} {case.path} {case.body!r}: {answer.status_code} {answer.text[:300]}")

                play(
                    ask,
                    case_of,
                    settings(
                        max_examples=count, deadline=None, database=None, phases=[Phase.generate], suppress_health_check=list(HealthCheck)
                    ),
                )
    print(f"{statuses.total()} requests: {dict(sorted(statuses.items()))}")
    assert failed == []
    assert statuses.total() >= REQUESTS


def play(function: Any, cases: Any, how: Any) -> None:
    from hypothesis import given

    @how
    @given(cases)
    def once(case: Any) -> None:
        function(case)

    once()


def sent(case: Any) -> dict[str, Any]:
    """A case as the client sends it."""
    kwargs = case.as_transport_kwargs(base_url="http://localhost")
    return {
        key: value
        for key, value in kwargs.items()
        if key in ("method", "url", "headers", "params", "json", "content", "data", "cookies") and value is not None
    }
