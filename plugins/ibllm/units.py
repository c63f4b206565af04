"""Numbers of parameters, operations and bytes as people read them. Torch-free."""


def readable(count: float | None) -> str:
    """Three digits and a unit, ``—`` for None: 1234567 → ``1.23 M``."""
    if count is None:
        return "—"
    for unit, name in ((1e15, "P"), (1e12, "T"), (1e9, "G"), (1e6, "M"), (1e3, "k")):
        if count >= unit:
            return f"{count / unit:.3g} {name}"
    return f"{count:.3g}"


def readable_bytes(number: float) -> str:
    """1048576 → 1.0 MiB"""
    for size, name in ((2**30, "GiB"), (2**20, "MiB"), (2**10, "KiB")):
        if number >= size:
            return f"{number / size:.1f} {name}"
    return f"{number:.0f} B"
