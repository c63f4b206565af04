"""Tests that need more than the README's installation, or more than a minute: ``python -m pytest tests/integration``, after what CONTRIBUTING.md says."""

from __future__ import annotations

from collections import Counter

import pytest

from .needs import ABSENT


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """What was absent, in one line."""
    reasons = [report.longrepr[2] for report in terminalreporter.stats.get("skipped", []) if isinstance(report.longrepr, tuple)]
    absent = Counter(reason.partition(ABSENT)[2] for reason in reasons if ABSENT in reason)
    if absent:
        said = ", ".join(f"{what} ({count})" for what, count in sorted(absent.items()))
        terminalreporter.write_line(f"not tested here, for it is absent: {said}")
