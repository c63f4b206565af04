"""What this plugin offers."""

from __future__ import annotations

from collections.abc import Iterable

from ibllm.plugin import ComponentSpec, hookimpl


@hookimpl
def ibllm_components() -> Iterable[ComponentSpec]:
    return [
        ComponentSpec(
            kind="tokenizer",
            name="word",
            factory="ibllm_tokenizers.word:WordTokenizer",
            config="ibllm_tokenizers.config:WordConfig",
            summary="words and punctuation marks of any language; for small vocabularies",
        ),
        ComponentSpec(
            kind="tokenizer",
            name="bpe",
            factory="ibllm_tokenizers.bpe:BPETokenizer",
            config="ibllm_tokenizers.config:BPEConfig",
            summary="byte-pair encoding trained on the data, for any text of any language (Hugging Face tokenizers)",
        ),
    ]
