"""What text decoders that read a prefix share of their options. Torch-free."""

from __future__ import annotations

import attrs

from ibllm.added import added
from ibllm_core.host.options import Config, option


@attrs.frozen(kw_only=True)
class PrefixedTextDecoderConfig(Config):
    """The base of the options of a text decoder that reads a prefix: it can be told which language to write in."""

    languages: tuple[str, ...] = added(
        option(
            (),
            help="codes (ISO 639) of the languages that it is told, a caption's before the caption, so that it can be asked to write in any of "
            "them; empty: it is told none",
        )
    )

    def __attrs_post_init__(self) -> None:
        if len(set(self.languages)) < len(self.languages) or not all(self.languages):
            raise ValueError(f"languages = {self.languages!r}: expected different codes, or none")

    def provides(self) -> frozenset[str]:
        return frozenset({"exact_likelihood", "prefix"})
