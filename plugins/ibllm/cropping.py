"""How much of a picture a model does not see. Torch-free. Shapes: h w an image."""

from __future__ import annotations

from collections.abc import Sequence

#: A share of a picture that is worth a word where it is cut off.
MUCH = 0.25


def outside(width: int, height: int, size: tuple[int, int], how: str) -> float:
    """The share of a picture that is cut off where it is made to fit (w, h), in [0, 1)."""
    if how != "crop" or not width * height:
        return 0.0
    across, down = width * size[1], height * size[0]
    return 1 - min(across, down) / max(across, down)


def cut_off(shares: Sequence[float], names: Sequence[str] = ()) -> str:
    """A sentence about pictures of which more than `MUCH` is cut off; empty where there are none.

    Args:
        shares: of each, as `outside` gives them.
        names: what to call each.
    """
    much = [number for number, share in enumerate(shares) if share > MUCH]
    if not much:
        return ""
    worst = max(much, key=lambda number: shares[number])
    why = "the model reads the middle, as its data were cropped"
    if len(shares) == 1:
        return f"{shares[0]:.0%} of the picture {'' if not names else f'{names[0]} '}lies outside what is read: {why}"
    named = f" ({names[worst]})" if names else ""
    return (
        f"of {len(much)} of {len(shares)} pictures more than {MUCH:.0%} lies outside what is read, of one{named} {shares[worst]:.0%}: {why}"
    )
