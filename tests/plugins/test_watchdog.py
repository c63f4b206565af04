"""What waits for ever is named and left; who waited for an alarm before still gets it."""

from __future__ import annotations

import contextlib
import signal
import time

import pytest

from ibllm_core.errors import UserError
from ibllm_core.host.manager import PluginError
from ibllm_core.host.watchdog import TIMEOUT, Stuck, patience, watch


@pytest.mark.parametrize("said", ["soon", "-1", "nan", "inf"])
def test_the_environment_says_seconds(said: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(TIMEOUT, said)
    with pytest.raises(UserError, match=f"{TIMEOUT} = '{said}': expected a number of seconds, or 0"):
        patience()


def test_zero_waits_for_ever(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(TIMEOUT, "0")
    with watch("this", "nothing helps"):
        assert signal.getitimer(signal.ITIMER_REAL) == (0.0, 0.0)


def test_an_alarm_of_before_still_rings(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(TIMEOUT, "30")
    rung: list[int] = []
    before = signal.signal(signal.SIGALRM, lambda number, _: rung.append(number))
    signal.setitimer(signal.ITIMER_REAL, 0.05)
    try:
        with watch("this", "nothing helps"):
            pass
        time.sleep(0.2)
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)
    assert rung == [signal.SIGALRM]


def test_code_that_swallows_exceptions_is_interrupted(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(TIMEOUT, "0.1")

    def stubborn() -> None:
        while True:
            with contextlib.suppress(Exception):
                time.sleep(0.01)

    with pytest.raises(Stuck, match=r"not done after 0\.1 s"), watch("this", "nothing helps"):
        stubborn()


def test_a_factory_that_hangs_is_an_error_of_its_distribution(site, source, monkeypatch: pytest.MonkeyPatch) -> None:  # type: ignore[no-untyped-def]
    monkeypatch.setenv(TIMEOUT, "0.5")
    modules = {"slow_plugin": source(factory="slow_parts:make"), "slow_parts": "import time\ntime.sleep(1000)\n"}
    site.install("slow", {"slow": "slow_plugin"}, modules)
    found = site.manager()
    with pytest.raises(
        PluginError, match=r"slow==1\.0: the factory of loss\.mine.*not done after 0\.5 s \(.*slow_parts\.py:2\); .*IBLLM_BLOCK=slow"
    ):
        found.factory("loss", "mine")
