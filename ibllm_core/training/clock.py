"""What takes how long."""

from __future__ import annotations

import time
from collections import defaultdict
from collections.abc import Iterator, Mapping
from contextlib import contextmanager


class Clock:
    """Counts every moment for the innermost `timed` around it, and for that alone: a listener's time is not its stage's."""

    def __init__(self) -> None:
        self._seconds: defaultdict[str, float] = defaultdict(float)
        self._within: list[str] = []
        self._since = 0.0

    @contextmanager
    def timed(self, name: str) -> Iterator[None]:
        """Within, time counts for `name`."""
        self.read()
        self._within.append(name)
        try:
            yield
        finally:
            self.read()
            self._within.pop()

    def read(self) -> dict[str, float]:
        """Name → seconds so far; listeners (``GROUP/NAME``) stand last."""
        now = time.perf_counter()
        if self._within:
            self._seconds[self._within[-1]] += now - self._since
        self._since = now
        return dict(sorted(self._seconds.items(), key=lambda item: "/" in item[0]))

    def add(self, seconds: Mapping[str, float]) -> None:
        """Counts the seconds of an earlier part of the run, too."""
        for name, spent in seconds.items():
            self._seconds[name] += spent
