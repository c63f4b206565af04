"""How a class declares what a table of a recipe holds: options, and further tables. Torch-free."""

from __future__ import annotations

import typing
from typing import Any

import attrs

from .words import is_mapping, keys, types_of


@attrs.frozen(kw_only=True)
class Section:
    """A table of a recipe that is no option: the field of a class that holds what it says.

    Attributes:
        name: the field and, unless `spread`, the table's key.
        of: the class of the field's value, or of each of its values.
        help: what it is for.
        kind: the kind of the component that it names with ``use``; `PART` for the kind that it is called by.
        named: it is a table of tables, each called by a name.
        names: the names there may be; empty for any.
        removable: ``NAME = false`` takes a table away that another file gave.
        required: a recipe has it.
        spread: its keys stand in the table of the class that has the field, among that class's options.
        otherwise: the component where a recipe names none.
        fills: it is taken where ``[FILLS.NAME]`` says nothing of its own.
        implied: left out of `resolve.resolved` where it is this component at its defaults: it is younger than runs whose keys shall stay.
    """

    name: str
    of: type
    help: str
    kind: str = ""
    named: bool = False
    names: tuple[str, ...] = ()
    removable: bool = False
    required: bool = False
    spread: bool = False
    otherwise: str = ""
    fills: str = ""
    implied: str = ""

    @property
    def keys(self) -> tuple[str, ...]:
        """The keys in the holding table that are the section's; a component's options are not known beforehand."""
        return (self.name,) if not self.spread else self.names if self.named else () if self.kind else tuple(keys(self.of))


#: Of a section whose components are of the kinds that they are called by.
PART = "part"


def section(default: Any = None, help: str = "", **facts: Any) -> Any:
    """Declares a field that holds a table; `facts` are attributes of `Section`. In a recipe that is still being read, what could not be read is None."""
    metadata = {"section": {"help": help, **facts}}
    return attrs.field(factory=dict, metadata=metadata) if default is dict else attrs.field(default=default, metadata=metadata)


def beside(**arguments: Any) -> Any:
    """Declares a field that no key of a recipe fills."""
    return attrs.field(metadata={"section": None}, **arguments)


def but(declared: Any, **facts: Any) -> Any:
    """An option with more to say: ``written``, its type in a recipe where the field has another; ``unresolved``, it makes no difference to a run."""
    declared.metadata.update(facts)
    return declared


def sections(cls: Any) -> tuple[Section, ...]:
    """The tables that a class holds, in order."""
    declared = {field.name: facts for field in attrs.fields(cls) if (facts := field.metadata.get("section")) is not None}
    found, types = [], types_of(cls) if declared else {}
    for name, facts in declared.items():
        named = is_mapping(types[name])
        found.append(Section(name=name, of=typing.get_args(types[name])[1] if named else types[name], named=named, **facts))
    return tuple(found)
