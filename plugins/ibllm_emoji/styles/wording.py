"""How a caption names a drawing and its style, in each language of `emojibase-data`. Torch-free.

A caption is a name as the Unicode CLDR has it, and words for the style that leave the name as it stands: no article, case or plural of it is needed.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from functools import cache

import attrs

#: Style → what its drawings are called by.
STYLES: Mapping[str, str] = {"noto": "Noto", "twemoji": "Twemoji", "fluent": "Fluent", "openmoji": "OpenMoji"}
#: Language → a caption; ISO 639 codes, with a region or script where emojibase has several.
TEMPLATES: Mapping[str, str] = {
    "bn": "{style} শৈলীতে {name}",
    "da": "{name} i {style}-stil",
    "de": "{name} im Stil von {style}",
    "en": "{name}, as {style} draws it",
    "en-gb": "{name}, as {style} draws it",
    "es": "{name} al estilo de {style}",
    "es-mx": "{name} al estilo de {style}",
    "et": "{name} {style} stiilis",
    "fi": "{name} {style}-tyyliin",
    "fr": "{name} dans le style {style}",
    "hi": "{style} शैली में {name}",
    "hu": "{name} {style}-stílusban",
    "it": "{name} nello stile di {style}",
    "ja": "{style}風の{name}",
    "ko": "{style} 스타일의 {name}",
    "lt": "{name} „{style}“ stiliumi",
    "ms": "{name} dalam gaya {style}",
    "nb": "{name} i {style}-stil",
    "nl": "{name} in de stijl van {style}",
    "pl": "{name} w stylu {style}",
    "pt": "{name} no estilo {style}",
    "ru": "{name} в стиле {style}",
    "sv": "{name} i {style}-stil",
    "th": "{name}ในสไตล์ {style}",
    "uk": "{name} у стилі {style}",
    "vi": "{name} theo phong cách {style}",
    "zh": "{style} 风格的{name}",
    "zh-hant": "{style} 風格的{name}",
}
LANGUAGES = tuple(TEMPLATES)
#: What separates a list of names; the first one is taken where a language's names are lists.
_LISTS = {"hi": ","}
#: Scripts that are written without spaces: there a character counts as a word.
_UNSPACED = re.compile(r"[\u0e00-\u0e7f\u3040-\u30ff\u3400-\u9fff]|[^\s\u0e00-\u0e7f\u3040-\u30ff\u3400-\u9fff]+")


@attrs.frozen
class Named:
    """What a caption says: the name of a concept, and a style."""

    name: str
    style: str


def cleaned(name: str, language: str) -> str:
    """A name with single spaces, and the first one of a list."""
    return " ".join(name.split(_LISTS[language])[0].split() if language in _LISTS else name.replace(" ,", ",").split())


def write(name: str, style: str, language: str) -> str:
    """The caption of a concept's name."""
    return TEMPLATES[language].format(name=name, style=STYLES[style])


def read(caption: str, language: str) -> Named | None:
    """What a caption in `language` says; None where it is no caption of that language."""
    found = _pattern(language).fullmatch(caption)
    return Named(found["name"], _STYLE_OF[found["style"]]) if found else None


_STYLE_OF = {word: style for style, word in STYLES.items()}


@cache
def _pattern(language: str) -> re.Pattern[str]:
    text = re.escape(TEMPLATES[language])
    return re.compile(text.replace(r"\{name\}", "(?P<name>.+)").replace(r"\{style\}", f"(?P<style>{'|'.join(STYLES.values())})"))


def words(name: str) -> list[str]:
    """The words of a name: what stands between spaces, and each character of a script that has none."""
    return _UNSPACED.findall(name)
