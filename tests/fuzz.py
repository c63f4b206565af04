"""Random edits of recipes and study files: none may end in a traceback, or take long. ``python tests/fuzz.py --help``

An edit is of what the file says (another type, another value, a key that is renamed, removed, added or moved, deep nesting), or of its text (lines, characters
of Unicode, bytes). ``ibllm check`` then has to accept a recipe, or to refuse it with exit code 2 and a message; a study is read and planned, and refused in
any case, since there is nothing to report.
"""

from __future__ import annotations

import argparse
import contextlib
import datetime
import io
import json
import math
import os
import resource
import signal
import sys
import tempfile
import time
import tomllib
from collections import Counter
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import attrs
from hypothesis import HealthCheck, Phase, given, seed, settings
from hypothesis import strategies as st

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT))
#: Seconds of this process's own time that a file may take, and after which it is given up.
PATIENCE, GIVEN_UP = 5.0, 20.0
#: Bytes of memory that a file may need beyond what torch itself takes.
MEMORY = 8 << 30

#: Values that go wherever a value stands.
VALUES: st.SearchStrategy[Any] = st.one_of(
    st.sampled_from([
        0, 1, -1, 2, 3, 7, 1000, 2**31, 2**63, 2**64, -(2**63), 10**30, 10**4400, 0.0, -0.0, 0.5, 1e-300, 1e308, math.inf, -math.inf, math.nan, True, False,
        "", " ", "all", "auto", "text", "image", "joint", "none", "true", "0", "1", "../..", "/", "/dev/zero", "/dev/null", "a" * 300, "x" * 100_000, "a\0b",
        "é", "e\u0301", "\u202e", "\u200b", "\ufeff", "\u2028", "😀", "{}", "%s", "$HOME", "ibllm:small", "package.word", "__class__", "\x1b[2J",
        [], {}, [[]], [{}], {"": 0}, [1, "a"], {"use": "none"}, {"use": ""}, {"use": "transformer"}, {"use": "scene"}, datetime.date(2020, 2, 29),
        datetime.datetime(2020, 2, 29, 1, 2, 3), datetime.time(1, 2, 3),
    ]),
    st.integers(),
    st.floats(),
    st.text(max_size=8),
    st.lists(st.one_of(st.integers(-3, 300), st.floats(), st.text(max_size=3), st.booleans()), max_size=4),
    st.dictionaries(st.text(max_size=4), st.one_of(st.integers(-3, 300), st.text(max_size=3)), max_size=3),
)  # fmt: skip
#: Keys that may stand anywhere, beside those of the file itself.
KEYS = st.one_of(
    st.sampled_from(
        [
            "",
            " ",
            ".",
            "use",
            "steps",
            "every",
            "format",
            "extends",
            "name",
            "base",
            "seeds",
            "order",
            "train",
            "losses",
            "é",
            "a.b",
            '"',
            "__init__",
        ]
    ),
    st.text(max_size=6),
)
#: Snippets of text that go anywhere.
TEXTS = st.one_of(
    st.sampled_from(
        [
            b"\x00",
            b"\xff",
            b"\xef\xbb\xbf",
            b"\r",
            b"\xe2\x80\xa8",
            b"[",
            b"]",
            b"[[",
            b'"',
            b"'''",
            b"=",
            b"#",
            b"\\",
            b"\xed\xa0\x80",
            b"1_",
            b"{",
            b"}",
        ]
    ),
    st.sampled_from([b"[" * 3000, b"a." * 3000 + b"b = 1\n", b"x = " + b"[" * 5000, b"x = " + b"{a=" * 3000, b"\n" * 1000, b"9" * 5000]),
    st.binary(max_size=4),
    st.text(max_size=4).map(lambda text: text.encode("utf-8", "surrogatepass")),
)


def places(tables: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """The paths of everything in a document."""
    if path:
        yield path
    items = tables.items() if isinstance(tables, dict) else enumerate(tables) if isinstance(tables, list) else ()
    for key, value in items:
        yield from places(value, (*path, key))


@st.composite
def edits(draw: st.DrawFn, tables: Mapping[str, Any]) -> bytes:
    """A file that says something like `tables`."""
    edited: dict[str, Any] = _copy(tables)
    for _ in range(draw(st.integers(0, 3))):
        found = list(places(edited))
        if not found:
            break
        path = draw(st.sampled_from(found))
        within, key = edited, path[-1]
        for step in path[:-1]:
            within = within[step]
        what = draw(st.sampled_from(["value", "value", "value", "remove", "rename", "add", "move", "wrap", "deep"]))
        if what == "value":
            within[key] = draw(VALUES)
        elif what == "remove":
            del within[key]
        elif what == "rename" and isinstance(within, dict):
            within[draw(KEYS)] = within.pop(key)
        elif what == "add" and isinstance(within, dict):
            within[draw(KEYS)] = draw(VALUES)
        elif what == "move":
            other = draw(st.sampled_from(found))
            value: Any = edited
            with contextlib.suppress(KeyError, IndexError, TypeError):
                for step in other:
                    value = value[step]
            within[key] = _copy(value)
        elif what == "wrap":
            within[key] = draw(st.sampled_from([[within[key]], {"use": within[key]}, {"a": within[key]}]))
        else:
            for _ in range(draw(st.sampled_from([5, 50, 200]))):
                within[key] = [within[key]]
    content = written(edited).encode("utf-8", "surrogatepass")
    for _ in range(draw(st.sampled_from([0, 0, 0, 1, 2]))):
        at, length = draw(st.integers(0, len(content))), draw(st.sampled_from([0, 0, 1, 5, 100]))
        content = content[:at] + draw(TEXTS) + content[at + length :]
    return content


def _copy(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {key: _copy(one) for key, one in value.items()}
    return [_copy(one) for one in value] if isinstance(value, list) else value


def written(tables: Mapping[str, Any]) -> str:
    """Tables as TOML: sections with a line a key, all below in one line."""
    head = [f"{_key(key)} = {_value(value)}" for key, value in tables.items() if not isinstance(value, dict)]
    for name, table in tables.items():
        if isinstance(table, dict):
            head += ["", f"[{_key(name)}]", *(f"{_key(key)} = {_value(value)}" for key, value in table.items())]
    return "\n".join(head) + "\n"


def _key(key: Any) -> str:
    return _text(str(key))


def _text(text: str) -> str:
    return json.dumps(text).replace("\x7f", "\\u007f")


def _value(value: Any) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, str):
        return _text(value)
    if isinstance(value, int):
        sys.set_int_max_str_digits(0)
        try:
            return str(value)
        finally:
            sys.set_int_max_str_digits(4300)
    if isinstance(value, float):
        return repr(value) if math.isfinite(value) else {math.inf: "inf", -math.inf: "-inf"}.get(value, "nan")
    if isinstance(value, list):
        return "[" + ", ".join(map(_value, value)) + "]"
    if isinstance(value, dict):
        return "{" + ", ".join(f"{_key(key)} = {_value(one)}" for key, one in value.items()) + "}"
    return value.isoformat()


class TooLong(BaseException):
    """A file took longer than it may."""


@attrs.frozen
class Verdict:
    """What a command said of a file: its exit code, seconds of its own time, and what was wrong with that, if anything."""

    code: int
    seconds: float
    wrong: str


def judge(words: list[str]) -> Verdict:
    """Runs a command in this process."""
    from ibllm_cli.main import main

    def stop(*_: object) -> None:
        raise TooLong

    said, code, wrong = io.StringIO(), -1, ""
    before, begun = signal.signal(signal.SIGPROF, stop), time.process_time()
    signal.setitimer(signal.ITIMER_PROF, GIVEN_UP)
    try:
        with contextlib.redirect_stdout(said), contextlib.redirect_stderr(said):
            code = main(words)
    except TooLong:
        wrong = f"given up after {GIVEN_UP:.0f} s"
    except BaseException as error:
        wrong = f"{type(error).__name__}: {error}"[:300]
    finally:
        signal.setitimer(signal.ITIMER_PROF, 0)
        signal.signal(signal.SIGPROF, before)
    seconds = time.process_time() - begun
    text = said.getvalue()
    if not wrong and (code not in (0, 2) or "Traceback" in text or "internal error" in text or "Tell its maintainer" in text):
        wrong = f"exit code {code}: {text[-1500:]}"
    if not wrong and seconds > PATIENCE:
        wrong = f"took {seconds:.1f} s"
    return Verdict(code, seconds, wrong)


def _is_study(path: Path) -> bool:
    return "\nbase = " in path.read_text(encoding="utf-8")


def recipes() -> dict[str, Mapping[str, Any]]:
    """Shipped recipes and the tests' tiny one, resolved: name → tables."""
    from ibllm_core.recipe import load

    found = {}
    for path in [ROOT / "tests/training/tiny.toml", ROOT / "tests/training/lasting.toml", *sorted((ROOT / "recipes").rglob("*.toml"))]:
        with contextlib.suppress(Exception):  # one that needs what is not here; studies
            if not _is_study(path):
                found[path.relative_to(ROOT).as_posix()] = tomllib.loads(load(path).source)
    return found


def studies() -> dict[str, Mapping[str, Any]]:
    """Shipped studies: name → tables."""
    found = {}
    for path in filter(_is_study, sorted((ROOT / "recipes").rglob("*.toml"))):
        tables = tomllib.loads(path.read_text(encoding="utf-8"))
        few = {"base": str((path.parent / tables["base"]).resolve())}
        if "budget" in tables:  # what it holds equal is found by building every arm many times, which takes its time rightly
            few |= {"budget": {}, "axes": {}, "variants": dict(list(tables.get("variants", {}).items())[:2])}
        found[path.stem] = {key: value for key, value in (tables | few).items() if value != {}}
    return found


def words_for(kind: str, folder: Path, content: bytes, walks: bool = True) -> list[str]:
    """The command that judges a file of this content; a recipe that `walks` is built on the meta device, too, where it can be read."""
    path = folder / f"{kind}.toml"
    path.write_bytes(content)
    if kind == "recipe":
        return ["check", str(path)] if walks else ["diff", str(path), str(path)]
    return ["ablate", str(path), "--report", "--study-dir", str(folder / "none")]


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=10_000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--studies", type=float, default=0.2, help="the share of studies")
    parser.add_argument("--walk", type=float, default=0.2, help="the share of recipes that are built on the meta device, too")
    parser.add_argument("--minutes", type=float, default=math.inf, help="stop after so long")
    parser.add_argument("--keep", type=Path, default=Path("fuzzed"), help="where files that were not judged well go")
    given_ = parser.parse_args()
    os.environ["OMP_NUM_THREADS"] = "1"
    import torch

    torch.set_num_threads(1)
    resource.setrlimit(resource.RLIMIT_AS, (MEMORY + (8 << 30), resource.RLIM_INFINITY))
    codes: Counter[str] = Counter()
    wrong: dict[str, int] = {}
    slowest, until = 0.0, time.monotonic() + 60 * given_.minutes
    bases = {"recipe": recipes(), "study": studies()}
    print(f"{len(bases['recipe'])} recipes, {len(bases['study'])} studies", flush=True)

    with tempfile.TemporaryDirectory(prefix="fuzz-") as name:
        folder = Path(name)

        def many(kind: str, rounds: int) -> None:
            each = max(1, rounds // len(bases[kind]))
            for number, (base, tables) in enumerate(bases[kind].items()):
                some(kind, each, number, base, tables)
                print(f"{base}: {dict(codes)}, the slowest {slowest:.1f} s", flush=True)

        def some(kind: str, each: int, number: int, base: str, tables: Mapping[str, Any]) -> None:
            @seed(given_.seed * 1000 + number)
            @settings(max_examples=each, database=None, deadline=None, phases=[Phase.generate], suppress_health_check=list(HealthCheck))
            @given(edits(tables))
            def one(content: bytes) -> None:
                nonlocal slowest
                if time.monotonic() > until:
                    return
                walks = codes.total() % 100 < 100 * given_.walk
                verdict = judge(words_for(kind, folder, content, walks))
                codes[f"{kind}: exit code {verdict.code}"] += 1
                slowest = max(slowest, verdict.seconds)
                if verdict.wrong:
                    short = f"{kind}: " + verdict.wrong.splitlines()[0][:160]
                    wrong[short] = wrong.get(short, 0) + 1
                    if wrong[short] == 1:
                        given_.keep.mkdir(parents=True, exist_ok=True)
                        (given_.keep / f"{kind}-{len(wrong)}.toml").write_bytes(content)
                        print(f"{kind}-{len(wrong)}, of {base}: {verdict.wrong[-700:]}", flush=True)

            one()

        if given_.studies < 1:
            many("recipe", round(given_.rounds * (1 - given_.studies)))
        many("study", round(given_.rounds * given_.studies))
    print(f"{codes.total()} files: {dict(codes)}; the slowest took {slowest:.1f} s; {len(wrong)} kinds of faults")
    return bool(wrong)


if __name__ == "__main__":
    sys.exit(main())
