"""How strong attacks are: what a user types, and what a perturbation's options call it. Torch-free."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from fractions import Fraction

import attrs

from ibllm_core.errors import UserError

#: What is perturbed → the option of the command that says how strongly, the option of the component, and the strengths by default.
KNOBS: Mapping[str, tuple[str, str, str]] = {
    "image": ("--image.epsilon", "epsilon", "0,1/255,2/255,4/255,8/255"),
    "embedding": ("--embedding.epsilon", "epsilon", "0,0.05,0.1,0.2,0.4"),
    "text": ("--text.changes", "changes", "0,1,2"),
}
#: What is perturbed → what is attacked by default.
AGAINST = {"image": "captioning", "embedding": "cycle", "text": "cycle"}
#: What is perturbed → the attack by default.
USE = {"image": "apgd", "embedding": "apgd", "text": "typos"}


@attrs.frozen
class Strength:
    """How strong one attack is: `label` as it was typed, `value` as the perturbation's option has it."""

    label: str
    value: float


def strengths(of: str, text: str) -> list[Strength]:
    """``0,1/255,2/255`` → each of them, the weakest first; without any attack, 0, first of all, for comparison.

    Raises:
        UserError: one is no number, negative, or of texts no integer.
    """
    option = KNOBS[of][0]
    found = []
    for word in filter(None, map(str.strip, text.split(","))):
        try:
            value = Fraction(word)
        except (ValueError, ZeroDivisionError):
            raise UserError(f"{option} {word}: expected numbers with commas between, {KNOBS[of][2]} say") from None
        if value < 0 or (of == "image" and value > 1) or (of == "text" and value.denominator != 1):
            wanted = {"image": "a share of the range from black to white, from 0 to 1", "text": "whole numbers"}.get(
                of, "no negative number"
            )
            raise UserError(f"{option} {word}: expected {wanted}")
        found.append(Strength(word, int(value) if of == "text" else float(value)))
    if not found:
        raise UserError(f"{option}: expected numbers with commas between, {KNOBS[of][2]} say")
    return sorted(dict.fromkeys([Strength("0", 0), *(one for one in found if one.value)]), key=lambda one: one.value)


def chosen(of: str | None, typed: Mapping[str, str | None]) -> tuple[str, Sequence[Strength]]:
    """What is perturbed, and how strongly.

    Args:
        of: what ``--of`` says, if it was given.
        typed: what is perturbed → what its option was given, if it was.

    Raises:
        UserError: options of two of them, or one that is not what ``--of`` says.
    """
    given = [name for name, text in typed.items() if text is not None]
    if len(given) > 1:
        raise UserError(f"{' and '.join(KNOBS[name][0] for name in given)}: expected one of them")
    if of is not None and given and given != [of]:
        raise UserError(f"{KNOBS[given[0]][0]} with --of {of}: expected {KNOBS[of][0]}")
    what = of or (given[0] if given else "image")
    return what, strengths(what, typed[what] or KNOBS[what][2])
