"""Formulas as binary decision diagrams (Bryant 1986), by which the weight of all that satisfies them is counted exactly. Torch-free."""

from __future__ import annotations

from collections.abc import Sequence

import attrs

from ibllm.plugin import UserError
from ibllm_logic.formulas import And, Atom, Formula, Implies, Not, Or

#: Nodes of a diagram, and atoms of a formula: far more than rules of a few dozen words have.
MOST, ATOMS = 4096, 128


@attrs.frozen
class Diagram:
    """Nodes, each (number of the atom, the node if it is so, the node if it is not), after those that they name; numbers 0 and 1 are false and true."""

    atoms: Sequence[Atom]
    nodes: Sequence[tuple[int, int, int]]
    root: int


def compiled(formula: Formula, place: str = "") -> Diagram:
    """The formula's diagram, atoms in the order in which it has them.

    Raises:
        UserError: it has more than `ATOMS` atoms, or would have more than `MOST` nodes; `place` is named.
    """
    atoms, nodes, unique, known = (
        formula.atoms(),
        list[tuple[int, int, int]](),
        dict[tuple[int, int, int], int](),
        dict[tuple[int, Formula | bool], int](),
    )

    def too_large() -> UserError:
        return UserError(f"{place}: the rule is too large to be counted exactly: expected fewer words in it, or semantics = 'product'")

    def node(n: int, rest: Formula | bool) -> int:
        if isinstance(rest, bool):
            return int(rest)
        if (n, rest) not in known:
            yes, no = (node(n + 1, given(rest, atoms[n], so)) for so in (True, False))
            key = (n, yes, no)
            if yes == no:
                known[n, rest] = yes
            else:
                if key not in unique:
                    nodes.append(key)
                    unique[key] = len(nodes) + 1
                    if len(nodes) > MOST:
                        raise too_large()
                known[n, rest] = unique[key]
        return known[n, rest]

    if len(atoms) > ATOMS:
        raise too_large()
    root = node(0, formula)
    return Diagram(atoms, nodes, root)


def given(formula: Formula, atom: Atom, so: bool) -> Formula | bool:
    """What remains of a formula where an atom is known."""
    match formula:
        case Not(inner):
            rest = given(inner, atom, so)
            return not rest if isinstance(rest, bool) else rest.of if isinstance(rest, Not) else Not(rest)
        case Implies(one, other):
            return given(Or((Not(one), other)), atom, so)
        case And(parts) | Or(parts):
            ends = isinstance(formula, Or)
            kept = list[Formula]()
            for part in parts:
                rest = given(part, atom, so)
                if rest is ends:
                    return ends
                if not isinstance(rest, bool) and rest not in kept:
                    kept.append(rest)
            return (not ends) if not kept else kept[0] if len(kept) == 1 else type(formula)(tuple(kept))
    return so if formula == atom else formula
