"""N-Triples, read by the rules of its grammar (W3C 2014, section 7), and RDF and OWL of any other form, by rdflib. Torch-free."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from pathlib import Path

from ibllm.plugin import UserError
from ibllm_graph.statements import Statement, text_of

_IRI, _BLANK = r"<([^\x00-\x20<>\"{}|^`\\]*)>", r"_:([\w.·-]*[\w·-])"
_LITERAL = r'"((?:[^"\\\n\r]|\\[tbnrf"\'\\]|\\u[0-9A-Fa-f]{4}|\\U[0-9A-Fa-f]{8})*)"(?:@([a-zA-Z]+(?:-[a-zA-Z0-9]+)*)|\^\^<[^>]*>)?'
_PIECES = (("subject", f"{_IRI}|{_BLANK}"), ("relation", _IRI), ("object", f"{_IRI}|{_BLANK}|{_LITERAL}"))
_ESCAPES = {"t": "\t", "b": "\b", "n": "\n", "r": "\r", "f": "\f"}


def read_ntriples(path: Path, languages: Sequence[str]) -> Iterator[Statement]:
    """A statement a line. Raises `UserError` with line and column where a line is none."""
    for number, line in enumerate(text_of(path).split("\n"), 1):
        at, found = 0, list[re.Match[str]]()
        if not line.strip() or line.lstrip().startswith("#"):
            continue
        for piece, pattern in _PIECES:
            at += len(line[at:]) - len(line[at:].lstrip())
            match = re.compile(pattern).match(line, at)
            if match is None:
                forms = {"relation": "<IRI>", "subject": "<IRI> or _:name"}.get(piece, '<IRI>, _:name or "text"')
                raise UserError(f"{path}:{number}:{at + 1}: this is no {piece}: expected {forms}")
            found.append(match)
            at = match.end()
        if not re.fullmatch(r"\s*\.\s*(#.*)?", line[at:]):
            raise UserError(f"{path}:{number}:{at + 1}: expected a full stop after the object")
        subject, relation, thing = found
        entity = thing[1] or (f"_:{thing[2]}" if thing[2] else None)
        yield Statement(
            subject[1] or f"_:{subject[2]}",
            relation[1],
            _unescaped(thing[3] or "") if entity is None else entity,
            literal=entity is None,
            language=(thing[4] or "").lower(),
        )


def _unescaped(text: str) -> str:
    def one(match: re.Match[str]) -> str:
        code = match[1]
        return chr(int(code[1:], 16)) if code[0] in "uU" else _ESCAPES.get(code, code)

    return re.sub(r"\\(u[0-9A-Fa-f]{4}|U[0-9A-Fa-f]{8}|.)", one, text)


def read_rdf(path: Path, languages: Sequence[str]) -> Iterator[Statement]:
    """Turtle, RDF/XML, OWL, JSON-LD, in alphabetical order: a file of these has none. Statements about nameless things (OWL's restrictions) are left out.

    Raises:
        UserError: rdflib is not installed, or cannot read the file.
    """
    try:
        import rdflib
    except ImportError:
        raise UserError(f'{path}: RDF is read by the package rdflib: pip install "ibllm[graph]", or say it in N-Triples (.nt)') from None
    graph = rdflib.Graph()
    guess = {".owl": "xml", ".rdf": "xml", ".xml": "xml", ".jsonld": "json-ld", ".n3": "n3"}.get(path.suffix.lower(), "turtle")
    try:
        graph.parse(path, format=guess)
    except Exception as error:  # each of its parsers has errors of its own
        raise UserError(f"{path}: rdflib cannot read it as {guess}: {' '.join(str(error).split())[:200]}") from None
    for subject, relation, thing in sorted(graph, key=lambda triple: tuple(map(str, triple))):
        if not isinstance(subject, rdflib.BNode) and not isinstance(thing, rdflib.BNode):
            literal = isinstance(thing, rdflib.Literal)
            language = (thing.language or "").lower() if isinstance(thing, rdflib.Literal) else ""
            yield Statement(str(subject), str(relation), str(thing), literal=literal, language=language)
