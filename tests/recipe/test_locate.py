"""Where keys stand in a TOML file."""

from __future__ import annotations

import tomllib
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from ibllm_core.recipe.locate import Path, dotted, locate

TEXT = '''# a comment

format = 1  # another
data.use = "shapes"
data.note = """
two
lines"""
order = [
  "a",
]
after = 'it'

[model.text_encoder]
use = "lstm"

  [model.image_decoder]
  deep.er = 2

[stages."my stage"]
losses = { joint = 1, other = { to = 2 } }
[[rows]]
a = 1

[[rows]]
b = 2
[rows.sub]
c = 3
[model.discriminator]
'''


def test_every_key_has_its_line() -> None:
    lines = TEXT.splitlines()
    found = {dotted(path): lines[line - 1].strip() for path, line in locate(TEXT).items()}
    assert found == {
        "format": "format = 1  # another",
        "data": 'data.use = "shapes"',
        "data.use": 'data.use = "shapes"',
        "data.note": 'data.note = """',
        "order": "order = [",
        "after": "after = 'it'",
        "model": "[model.text_encoder]",
        "model.text_encoder": "[model.text_encoder]",
        "model.text_encoder.use": 'use = "lstm"',
        "model.image_decoder": "[model.image_decoder]",
        "model.image_decoder.deep": "deep.er = 2",
        "model.image_decoder.deep.er": "deep.er = 2",
        "stages": '[stages."my stage"]',
        'stages."my stage"': '[stages."my stage"]',
        'stages."my stage".losses': "losses = { joint = 1, other = { to = 2 } }",
        "rows": "[[rows]]",
        "rows[0]": "[[rows]]",
        "rows[0].a": "a = 1",
        "rows[1]": "[[rows]]",
        "rows[1].b": "b = 2",
        "rows[1].sub": "[rows.sub]",
        "rows[1].sub.c": "c = 3",
        "model.discriminator": "[model.discriminator]",
    }


NAMES = st.sampled_from(["a", "b", "c d", "e.f", "ü", "1"])
BLANKS = st.lists(st.sampled_from(["", "# x", "  "]), max_size=2)
VALUES = st.sampled_from(["1", "'s'", "[\n 1,\n # in between\n 2,\n]", '"""\nx = 3\n[y]\n"""', "{ p = 1, q = { r = 2 } }", "true # b = 1"])


@given(st.lists(st.tuples(BLANKS, st.lists(NAMES, min_size=1, max_size=3), st.booleans(), VALUES), max_size=8))
def test_lines_hold_in_any_valid_file(parts: list[tuple[list[str], list[str], bool, str]]) -> None:
    text, expected = "", {}
    table: tuple[str, ...] = ()
    for blanks, path, header, value in parts:
        key = ".".join(f'"{name}"' for name in path)
        piece = "".join(f"{blank}\n" for blank in blanks) + (f"[{key}]\n" if header else f"{key} = {value}\n")
        try:
            tomllib.loads(text + piece)
        except tomllib.TOMLDecodeError:
            continue
        table = tuple(path) if header else table
        where = table if header else (*table, *path)
        expected[where] = (text + "".join(f"{blank}\n" for blank in blanks)).count("\n") + 1
        text += piece
    found = locate(text)
    assert {path: line for path, line in found.items() if path in expected} == expected
    assert set(found) >= set(paths(tomllib.loads(text), ())) - inside_values(expected, found)


def paths(table: dict[str, Any], above: Path) -> list[Path]:
    return [
        path for key, value in table.items() for path in ((*above, key), *(paths(value, (*above, key)) if isinstance(value, dict) else ()))
    ]


def inside_values(expected: dict[tuple[str, ...], int], found: Any) -> set[Path]:
    """Paths in inline tables: they have no line of their own."""
    return {(*path, *rest) for path in expected for rest in (("p",), ("q",), ("q", "r")) if (*path, *rest) not in found}
