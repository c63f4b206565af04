"""What a run cost stands on its page, as far as the run says it."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from ibllm_report import render


def test_flops_and_peak_memory_are_shown(make_run: Callable[..., Path]) -> None:
    memory = {"peak_bytes": 454283264, "of": "process (resident)"}
    page = render(make_run(run={"training_flops": 19861871984640, "memory": memory})).read_text(encoding="utf-8")
    assert "<dt>training, forward and backward</dt><dd>19.9 T FLOPs</dd>" in page
    assert "<dt>peak memory, process (resident)</dt><dd>433.2 MiB</dd>" in page
    assert '<a href="#cost">Cost</a>' in page


@pytest.mark.parametrize(
    "run",
    [{}, {"training_flops": None, "memory": {"peak_bytes": None, "of": "process (resident)"}}, {"training_flops": "many", "memory": [4]}],
)
def test_what_is_not_known_is_left_out(make_run: Callable[..., Path], run: dict[str, object]) -> None:
    page = render(make_run(run=run)).read_text(encoding="utf-8")
    assert "FLOPs</dd>" not in page
    assert "peak memory" not in page
