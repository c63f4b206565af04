"""The options of the tokenizers. Torch-free."""

from __future__ import annotations

import attrs

from ibllm.plugin import Config, added, option


@attrs.frozen(kw_only=True)
class WordConfig(Config):
    """Words and punctuation marks."""

    size: int = option(help="number of ids, four special ones included; a corpus that needs more is an error", ge=5)
    max_length: int = option(64, help="longest text in tokens, beginning and end included", ge=3)
    # Texts of other scripts are cut as before; where these are not, a study's keys differ by the hash of this package.
    unspaced: str = added(
        option(
            "words",
            help="what Chinese, Japanese, Thai, Lao, Burmese and Khmer, which have no spaces, are cut into: words, by ICU (pip install "
            '"ibllm[languages]"), or characters',
            choices=("words", "characters"),
        )
    )
    lowercase: bool = option(False, help="read every text in lower case (what is written is then in lower case too)")


@attrs.frozen(kw_only=True)
class BPEConfig(Config):
    """Byte-pair encoding (Sennrich et al. 2016) over bytes."""

    size: int = option(help="number of ids: four special ones, 256 bytes, and as many merges as are left and the corpus has", ge=260)
    max_length: int = option(64, help="longest text in tokens, beginning and end included", ge=3)
    min_count: int = option(2, help="occurrences in the corpus that a merge needs", ge=1)
