"""What a server is told."""

from __future__ import annotations

import attrs

__all__ = ["LOOPBACK", "Settings"]

LOOPBACK = ("localhost", "127.0.0.1", "::1")


@attrs.frozen
class Settings:
    """Limits and doors of a server.

    Args:
        host: the address that it listens on.
        token: what a request has to bring; None lets everybody in.
        rows: pictures or texts that go through the model together, at most.
        wait: seconds that the first of a batch waits for company while the model is idle.
        queue: requests that are under way at once, at most.
        timeout: seconds from a request's arrival to its answer, at most.
        body: bytes of a request, at most.
        pixels: of an image, at most.
    """

    host: str = "127.0.0.1"
    token: str | None = None
    rows: int = 32
    wait: float = 0.005
    queue: int = 64
    timeout: float = 30.0
    body: int = 4 * 2**20
    pixels: int = 2**24

    @property
    def loopback(self) -> bool:
        import ipaddress

        try:
            return ipaddress.ip_address(self.host).is_loopback
        except ValueError:
            return self.host.lower() == "localhost"
