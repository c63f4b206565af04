"""What tests of this folder need and may not find: they are skipped then, and counted in one closing line."""

from __future__ import annotations

import pytest

ABSENT = "absent: "


def needs(what: str, there: bool) -> None:
    """Skips the test where `what` is absent."""
    if not there:
        pytest.skip(ABSENT + what)
