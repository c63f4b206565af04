"""The options of the codecs and of their figures. Torch-free."""

from __future__ import annotations

import attrs

from ibllm.plugin import Config, Figure, MetricConfig, option


@attrs.frozen(kw_only=True)
class AutoencoderOptions(Config):
    """The sizes of the convolutional body that all codecs here have."""

    patch: int = option(4, help="height and width in pixels of the patches that the first layer takes in and the last one gives out", ge=1)
    channels: tuple[int, ...] = option(
        (64,),
        help="channels of each stage; every stage after the first halves height and width, so a place has patch · 2^(stages − 1) pixels a side",
        ge=1,
    )
    blocks: int = option(2, help="residual blocks of each stage, in the encoder as in the decoder", ge=0)

    def __attrs_post_init__(self) -> None:
        if not self.channels:
            raise ValueError("channels = (): expected at least one stage")

    @property
    def stride(self) -> int:
        """Pixels a side of a place, of a token say."""
        return self.patch * 2 ** (len(self.channels) - 1)


@attrs.frozen(kw_only=True)
class VQConfig(AutoencoderOptions):
    """Vector quantisation: each place of the encoder's map becomes the nearest vector of a learned codebook."""

    codes: int = option(512, help="vectors in the codebook, the vocabulary", ge=2)
    code_width: int = option(8, help="numbers in a code", ge=1)
    commitment: float = option(0.25, help="β, weight of the squared distance between the encoder's output and its code", ge=0)
    decay: float = option(0.98, help="γ, what each training step keeps of the codes' moving averages", ge=0, lt=1)
    restart: int = option(
        20, help="training steps after which a code that no place chose is moved onto a place of the batch; 0 for never", ge=0
    )

    def provides(self) -> frozenset[str]:
        return frozenset({"tokens", "regularisation"})


@attrs.frozen(kw_only=True)
class FSQConfig(AutoencoderOptions):
    """Finite scalar quantisation: each of a few numbers of a place is rounded to its own number of levels; there is no codebook to learn."""

    levels: tuple[int, ...] = option(
        (8, 5, 5, 5),
        help="levels of each number of a code; their product is the vocabulary. With 2, a number would hardly have a gradient",
        ge=3,
    )

    def __attrs_post_init__(self) -> None:
        super().__attrs_post_init__()
        if not self.levels:
            raise ValueError("levels = (): expected at least one number")

    def provides(self) -> frozenset[str]:
        return frozenset({"tokens"})


@attrs.frozen(kw_only=True)
class KLConfig(AutoencoderOptions):
    """A variational autoencoder with a small weight on its KL term: each place of the encoder's map is a few continuous numbers."""

    latents: int = option(6, help="c', numbers a place; 6 at 8 × 8 places are an eighth of the numbers of 3 × 32 × 32", ge=1)
    weight: float = option(
        1e-3,
        help="of the KL term, in nats a number, beside an error a number: enough that similar images have similar latents, "
        "too little to drive the numbers into noise",
        ge=0,
    )
    decay: float = option(0.98, help="what each training step keeps of the moving averages of the latents' mean and variance", ge=0, lt=1)

    def provides(self) -> frozenset[str]:
        return frozenset({"latents", "regularisation"})


@attrs.frozen(kw_only=True)
class ReconstructionMetricConfig(MetricConfig):
    """Real images through the codec and back: the ceiling of what a decoder of its tokens or latents can draw."""

    def figures(self) -> tuple[Figure, ...]:
        ratio = (
            "Mean peak signal-to-noise ratio of real images after the codec and back: "
            "the ceiling of what a decoder of its tokens or latents can draw."
        )
        return (Figure("reconstruction_psnr", "images through the codec and back", meaning=ratio, unit="dB", better="higher"),)

    def needs(self) -> frozenset[str]:
        return frozenset({"image_tokenizer", "data.images"})


@attrs.frozen(kw_only=True)
class CodeUsageConfig(MetricConfig):
    """How many of the image tokens are in use."""

    def figures(self) -> tuple[Figure, ...]:
        in_use = (
            "Perplexity of the image tokens' frequencies: as many tokens, used alike, would have the same entropy. "
            "Far below the vocabulary, codes lie idle."
        )
        return (Figure("code_perplexity", "tokens in use", meaning=in_use, better="higher"),)

    def needs(self) -> frozenset[str]:
        return frozenset({"image_tokenizer", "image_tokenizer.tokens", "data.images"})
