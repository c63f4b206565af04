"""Numbers of parameters, operations and bytes as people read them. Torch-free."""

from __future__ import annotations

__all__ = ["readable", "readable_bytes"]


def readable(count: float | None) -> str:
    """Three digits and a unit, ``—`` for None.

    Example:
        >>> readable(1234567), readable(999), readable(None)
        ('1.23 M', '999', '—')
    """
    if count is None:
        return "—"
    for unit, name in ((1e15, "P"), (1e12, "T"), (1e9, "G"), (1e6, "M"), (1e3, "k")):
        if count >= unit:
            return f"{count / unit:.3g} {name}"
    return f"{count:.3g}"


def readable_bytes(number: float) -> str:
    """1048576 → 1.0 MiB"""
    size = float(number)
    for name in ("B", "KiB", "MiB"):
        if size < 1024:
            return f"{size:.0f} {name}" if name == "B" else f"{size:.1f} {name}"
        size /= 1024
    return f"{size:.1f} GiB"
