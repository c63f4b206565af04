"""A recipe's TOML in light colours."""

from __future__ import annotations

import re

from markupsafe import Markup

_TOKEN = re.compile(
    r'''(?P<string>"""[\s\S]*?"""|\'\'\'[\s\S]*?\'\'\'|"(?:\\.|[^"\\\n])*"|'[^'\n]*')'''
    r"|(?P<comment>\#[^\n]*)"
    r"|(?P<table>^[ \t]*\[\[?[^\]\n]*\]\]?)"
    r"|(?P<key>[A-Za-z0-9_-]+(?:[ \t]*\.[ \t]*[A-Za-z0-9_-]+)*(?=[ \t]*=))"
    r"|(?P<boolean>\b(?:true|false)\b)"
    r"|(?P<number>(?<![\w.])[+-]?(?:inf|nan|\d[\d_]*(?:\.[\d_]+)?(?:[eE][+-]?\d+)?)(?![\w.]))",
    re.MULTILINE,
)


def coloured(text: str) -> Markup:
    """The text, escaped, its tokens in spans with the classes t-string, t-comment, t-table, t-key, t-boolean and t-number."""
    out, end = Markup(), 0
    for token in _TOKEN.finditer(text):
        out += text[end : token.start()]
        out += Markup('<span class="t-{}">{}</span>').format(token.lastgroup, token[0])
        end = token.end()
    return out + text[end:]
