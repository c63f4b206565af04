"""Each benchmark runs twice: one tiny round among the tests, without its bar, so that it does not rot; and measured, on an idle machine."""

from __future__ import annotations

import pytest

both = pytest.mark.parametrize(
    "measured", [pytest.param(False, id="one round"), pytest.param(True, id="measured", marks=pytest.mark.benchmark)]
)
