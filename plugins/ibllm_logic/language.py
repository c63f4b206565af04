"""Files of rules → `Rules`, or what is wrong with line and column. Torch-free."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable, Iterable, Mapping
from functools import cache, lru_cache
from pathlib import Path
from typing import Any

from ibllm.plugin import UserError, nearest
from ibllm_logic.formulas import (
    And,
    Class,
    Drawn,
    Formula,
    Has,
    Implies,
    Named,
    Not,
    Or,
    Related,
    Relation,
    Rule,
    Rules,
    counted,
    iff,
)

#: Terminals that have no fixed text → what they are called.
_CALLED = {"NAME": "a name", "STRING": "a text in quotation marks", "_NL": "the end of the line", "$END": "the end of the line"}
#: Expectations that are listed.
_SHOWN = 6


@cache
def parser() -> Any:
    """The parser of the grammar ``rules.lark``. Raises `UserError` where lark is not installed."""
    try:
        import lark
    except ImportError:
        raise UserError('rules are read by the package lark: pip install "ibllm[logic]"') from None
    text = (Path(__file__).parent / "rules.lark").read_text(encoding="utf-8")
    return lark.Lark(text, parser="lalr", propagate_positions=True, maybe_placeholders=False)


def read_rules(path: str | Path) -> Rules:
    """The rules of a file, read again only where it has changed.

    Raises:
        UserError: it is not there, is no text, or is not well: with line, column and what would be right.
    """
    file = Path(path)
    if not file.is_file():
        raise UserError(f"{file}: there is no such file: expected one with rules")
    stat = file.stat()
    return _read(file, stat.st_size, stat.st_mtime_ns)


@lru_cache(maxsize=8)
def _read(file: Path, size: int, time: int) -> Rules:
    raw = file.read_bytes()
    try:
        text = raw.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = raw[: error.start].count(b"\n") + 1
        raise UserError(f"{file}:{line}: byte 0x{raw[error.start]:02x} is not UTF-8: expected a text file") from None
    return parse(text, str(file))


def parse(text: str, file: str) -> Rules:
    """The rules of a text; `file` is named in messages. Raises `UserError`."""
    from lark.exceptions import UnexpectedCharacters, UnexpectedEOF, UnexpectedInput

    try:
        tree = parser().parse(text if text.endswith("\n") else f"{text}\n")
    except UnexpectedInput as error:
        line, column = (text.count("\n") + 1, 1) if isinstance(error, UnexpectedEOF) else (error.line, error.column)
        given = text.split("\n")[line - 1][column - 1 :].split() if 0 < line <= text.count("\n") + 1 else []
        what = f"{given[0]!r} cannot stand here" if given else "the statement is not complete"
        wanted = (
            error.allowed if isinstance(error, UnexpectedCharacters) else getattr(error, "accepts", None) or getattr(error, "expected", ())
        )
        raise UserError(f"{file}:{line}:{column}: {what}: expected {_expected(wanted or ())}") from None
    try:
        return _Reader(text, file).read(tree)
    except RecursionError:
        raise UserError(
            f"{file}:1:1: a rule has brackets within brackets without end, or as many negations: expected a simpler one"
        ) from None


def _expected(terminals: Iterable[str]) -> str:
    patterns = {terminal.name: terminal.pattern for terminal in parser().terminals}
    found = []
    for name in sorted(terminals):
        plain = patterns[name].value if name in patterns and patterns[name].type == "str" else ""
        kind = {"KIND": "exactly, at most, at least", "REVERSED": "reversed"}.get(name, "")
        plain = plain if plain[:1].isalpha() else plain and f"'{plain}'"
        found.append(_CALLED.get(name) or kind or plain)
    found = sorted(set(filter(None, found)), key=lambda word: (not word[0].isalpha(), word))
    return ", ".join(found[:_SHOWN]) + (", …" if len(found) > _SHOWN else "")


class _Reader:
    """Goes over the tree twice: what words mean, then what is said of them, wherever either stands."""

    def __init__(self, text: str, file: str) -> None:
        self.lines, self.file, self.text = text.split("\n"), file, text
        self.classes: dict[str, Class] = {}
        self.relations: dict[str, Relation] = {}
        self.nouns = ""

    def wrong(self, at: Any, what: str, expected: str) -> UserError:
        """The mistake at a token or a tree."""
        where = getattr(at, "meta", at)
        return UserError(f"{self.file}:{where.line}:{where.column}: {what}: expected {expected}")

    def read(self, tree: Any) -> Rules:
        for statement in tree.children:
            if statement.data in ("class", "relation"):
                name = statement.children[0]
                if name in self.classes or name in self.relations or name in ("named", "drawn"):
                    raise self.wrong(name, f"{name} is said twice, or is a word of the language", "another name")
                getattr(self, f"_read_{statement.data}")(statement)
        self._read_objects(tree)
        rules = [self._rule(statement) for statement in tree.children if statement.data == "rule"]
        if not rules:
            raise UserError(
                f"{self.file}:1:1: there is no rule: expected one, as: for every object o: exactly one {next(iter(self.classes))}(o)"
            )
        names = [rule.name for rule in rules]
        for rule in rules:
            if names.count(rule.name) > 1:
                raise UserError(f"{rule.place}: two rules are called {rule.name!r}: expected another name for one: rule NAME: …")
        digest = hashlib.sha256(self.text.encode()).hexdigest()
        return Rules(self.classes, self.nouns, self.relations, rules, digest)

    def _read_class(self, statement: Any) -> None:
        name, *words = statement.children
        after = bool(words) and words[0].data == "after"
        found: dict[str, list[str]] = {}
        for word in words[1 if after else 0 :]:
            first, *others = (_text(text) for text in word.children)
            if first in found:
                raise self.wrong(word, f"{first} is named twice", "each word once")
            found[first] = [first, *others]
        self.classes[str(name)] = Class(str(name), found, after)

    def _read_relation(self, statement: Any) -> None:
        name, *phrases = statement.children
        turned = [_text(phrase.children[-1]) for phrase in phrases if len(phrase.children) > 1]
        straight = [_text(phrase.children[-1]) for phrase in phrases if len(phrase.children) == 1]
        self.relations[str(name)] = Relation(str(name), straight, turned)

    def _read_objects(self, tree: Any) -> None:
        said = [statement.children[0] for statement in tree.children if statement.data == "objects"]
        if not self.classes:
            raise UserError(f"{self.file}:1:1: no words are said to mean anything: expected a line such as: colour: red | green | blue")
        if len(said) != 1:
            where = f"{said[1].line}:{said[1].column}" if said else "1:1"
            what = "objects are said twice" if said else "it is not said which words name objects"
            raise UserError(f"{self.file}:{where}: {what}: expected one line: objects are {next(reversed(self.classes))}")
        self._known(said[0], self.classes, "class of words")
        self.nouns = str(said[0])
        if self.classes[self.nouns].after:
            raise self.wrong(said[0], f"{self.nouns} name objects, so they stand after nothing", f"{self.nouns}: … without after")

    def _known(self, token: Any, known: Mapping[str, Any] | Iterable[str], what: str) -> None:
        names = list(known)
        if str(token) not in names:
            near = nearest(str(token), names)
            raise self.wrong(token, f"there is no {what} {str(token)!r}", f"{near}?" if near else f"one of {', '.join(names) or 'none'}")

    def _rule(self, statement: Any) -> Rule:
        label = next((child for child in statement.children if child.data == "label"), None)
        body = statement.children[-1]
        meta = body.meta
        text = self._source(statement, body)
        if body.data in ("named_is_drawn", "drawn_is_named"):
            one, other = (Named("o"), Drawn("o")) if body.data == "named_is_drawn" else (Drawn("o"), Named("o"))
            variables: tuple[str, ...] = ("o",)
            formula: Formula = Implies(one, other)
        else:
            said = body.children[0] if body.children[0].data == "quantifier" else None
            stated = tuple(map(str, said.children)) if said is not None else None
            if said is not None and len(set(said.children)) < len(said.children):
                raise self.wrong(said, "a variable is named twice", "each once")
            used: dict[str, None] = {}
            formula = self._formula(body.children[-1], stated, used)
            variables = stated if stated is not None else tuple(used)
            if len(variables) > 3:
                raise self.wrong(body, f"the rule is about {len(variables)} objects at once", "at most 3")
        name = _text(label.children[0]) if label is not None else text
        return Rule(
            name, text, variables, formula, f"{self.file}:{meta.line if not meta.empty else 1}:{meta.column if not meta.empty else 1}"
        )

    def _source(self, statement: Any, body: Any) -> str:
        meta = statement.meta if body.meta.empty else body.meta
        line = self.lines[meta.line - 1][meta.column - 1 :] if not meta.empty else ""
        return " ".join(line.partition("#")[0].split()) or str(body.data).replace("_", " ")

    def _formula(self, tree: Any, stated: tuple[str, ...] | None, used: dict[str, None]) -> Formula:
        def variable(token: Any) -> str:
            if stated is not None:
                self._known(token, stated, "variable")
            used[str(token)] = None
            return str(token)

        def part(child: Any) -> Formula:
            return self._formula(child, stated, used)

        match tree.data:
            case "iff":
                return iff(*map(part, tree.children))
            case "implies":
                return Implies(*map(part, tree.children))
            case "or_":
                return Or(tuple(map(part, tree.children)))
            case "and_":
                return And(tuple(map(part, tree.children)))
            case "not_":
                return Not(part(tree.children[0]))
        return self._said_of(tree, variable)

    def _said_of(self, tree: Any, variable: Callable[[Any], str]) -> Formula:
        """What has no formula in it; `variable` gives the name of one that is known."""
        children, name = tree.children, tree.children[-2 if tree.data in ("count", "none") else 0]
        if tree.data == "unary":
            return self._word(name, children[1], variable)
        if tree.data == "binary":
            self._known(name, self.relations, "relation")
            one, other = (variable(token) for token in children[1:])
            if one == other:
                raise self.wrong(children[2], f"{name} relates {one} to itself", "two different variables")
            return Related(str(name), one, other)
        self._known(name, self.classes, "class of words")
        words = self.classes[str(name)].words
        if tree.data == "value":
            word = _text(children[2])
            self._known(_At(word, children[2].meta), words, str(name))
            return Has(str(name), word, variable(children[1]))
        if tree.data == "same":
            self._known(children[2], [str(name)], "class of words to compare with")
            one, other = variable(children[1]), variable(children[3])
            return Or(tuple(And((Has(str(name), word, one), Has(str(name), word, other))) for word in words))
        kind = "no" if tree.data == "none" else " ".join(str(children[0]).split())
        return counted(kind, [Has(str(name), word, variable(children[-1])) for word in words])

    def _word(self, name: Any, of: Any, variable: Callable[[Any], str]) -> Formula:
        """``named(o)``, ``drawn(o)``, or a word of one of the classes."""
        if str(name) in self.relations:
            raise self.wrong(name, f"{name} is between two objects", f"{name}({of}, another variable)")
        if str(name) in ("named", "drawn"):
            return (Named if str(name) == "named" else Drawn)(variable(of))
        owners = [kind for kind, one in self.classes.items() if str(name) in one.words]
        if len(owners) == 1:
            return Has(owners[0], str(name), variable(of))
        if str(name) in self.classes:
            raise self.wrong(name, f"{name} is a class of words", f"exactly one {name}({of}), or {name}({of}) = a word of it")
        words = [word for one in self.classes.values() for word in one.words if re.fullmatch(r"\w+", word)]
        self._known(name, [*words, "named", "drawn"], "word")
        raise self.wrong(name, f"{name} is a word of {' and '.join(owners)}", f"{owners[0]}({of}) = {name}")


class _At(str):
    """A word with the place where it stands."""

    def __new__(cls, word: str, meta: Any) -> _At:
        made = super().__new__(cls, word)
        made.line, made.column = meta.line, meta.column
        return made

    line: int
    column: int


def _text(tree: Any) -> str:
    return " ".join(str(token).strip('"') for token in tree.children)
