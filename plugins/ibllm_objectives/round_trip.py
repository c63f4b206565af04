"""Round trips that start from an image or end in a latent. Shapes: b batch, t tokens, v vocabulary, e embedding width, d latent width."""

from __future__ import annotations

from typing import Any, cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ibllm.plugin import Context, Cycle, Latent, Loss, TextDecoder, TextEncoder, Tokens, UserError, Value, dropout_off
from ibllm_objectives.config import BackTranslationConfig, CycleImageConfig, CycleLatentConfig


def straight_through(ids: Tensor, logits: Tensor) -> Tensor:
    """ids (b t), logits (b t v) → (b t v) one-hot of the ids in value, softmax(logits) in gradient (straight through: Bengio et al. 2013)."""
    p = logits.softmax(-1)
    return F.one_hot(ids, logits.shape[-1]).to(p) + (p - p.detach())


def soft_embeddings(encoder: TextEncoder, ids: Tensor, logits: Tensor) -> Tensor:
    """Embeddings (b t+1 e) of a written text: ids (b t+1), logits (b t v) that its tokens after the beginning were chosen by."""
    every = torch.arange(logits.shape[-1], device=ids.device)
    table = encoder.embed(every[None])[0]
    chosen = straight_through(ids[:, 1:], logits).to(table) @ table
    return torch.cat([encoder.embed(ids[:, :1]), chosen], 1)


def expect_one_tokenizer(cycle: Cycle, loss: str) -> None:
    """Raises `UserError` where the text parts have different tokenizers."""
    tokenizers = cycle.model.tokenizers
    if tokenizers.get("text_encoder") is not tokenizers.get("text_decoder"):
        raise UserError(
            f"{loss}: the text encoder reads the very tokens that the text decoder writes, so both need the same tokenizer; "
            "expected model.text_encoder.tokenizer = model.text_decoder.tokenizer"
        )


class CycleImage(Loss):
    """−E log p(y | E_x(D_x(E_y(y)))): the image must be drawable from the caption that is written about it.

    The image half of cycle consistency (Zhu et al. 2017, eq. 2) with a likelihood for its distance. The caption is the captioner's own,
    likeliest words; gradients pass the choice of each word straight through (`straight_through`), to the mixture of embeddings that its
    probabilities give. Needs no captions.
    """

    def __init__(self, config: CycleImageConfig, context: Context) -> None:
        super().__init__()
        self.per = config.per

    def forward(self, cycle: Cycle) -> Tensor:
        mean = cycle.image_nll_of(cycle.images, self.reread_latent(cycle), "cycle_image").mean()
        return mean / cycle.images[0].numel() if self.per == "dimension" else mean

    def reread_latent(self, cycle: Cycle) -> Latent:
        """The latent of the caption written about each image. Raises `UserError` where the text parts have different tokenizers."""
        expect_one_tokenizer(cycle, "cycle_image")
        encoder = cast(TextEncoder, cycle.model.part("text_encoder"))
        written, logits = self.write_caption(cycle)
        return encoder.encode(soft_embeddings(encoder, written.ids, logits), written.mask)

    def write_caption(self, cycle: Cycle) -> tuple[Tokens, Tensor]:
        """The likeliest caption of each image word by word, and the logits (b t−1 v) of every token after the beginning, with their graph.

        Both without dropout: words are chosen by the distribution that they take their gradient from.
        """
        decoder, z = cast(TextDecoder, cycle.model.part("text_decoder")), cycle.z_images
        with dropout_off(decoder):
            written = decoder.sample(z.detach())
            return written, decoder.logits(written.ids[:, :-1], written.mask[:, :-1], z)


class BackTranslation(Loss):
    """−E log p(y | E_x(x̂)), x̂ written by D_x about the image y; or −E log p(x | E_y(ŷ)), ŷ drawn by D_y for the text x.

    Back-translation (Sennrich et al. 2016, section 3): the half of a pair that is wanted is real, the other one is the model's own and gets no
    gradient; drawn words rather than the likeliest ones are Edunov et al. 2018, section 4. What is written and drawn is made anew in every step, without
    dropout, so it improves as the model does; where the parts that make it are frozen it is the same as pairs made beforehand.
    """

    def __init__(self, config: BackTranslationConfig, context: Context) -> None:
        super().__init__()
        self.of, self.temperature = config.of, config.temperature

    def count(self, cycle: Cycle) -> Tensor | None:
        return None if self.of == "image" else cycle.texts.mask[:, 1:].sum()

    def forward(self, cycle: Cycle) -> Value:
        expect_one_tokenizer(cycle, "back_translation")
        if self.of == "image":
            written = self.written(cycle)
            z = cycle.through("text_encoder", "back_translation", lambda: cast(Latent, cycle.model.part("text_encoder")(written)), written)
            return cycle.image_nll_of(cycle.images, z, "back_translation").mean() / cycle.images[0].numel()
        drawn = self.drawn(cycle)
        z = cycle.through("image_encoder", "back_translation", lambda: cycle.model.part("image_encoder")(drawn), drawn)
        nll = cycle.through("text_decoder", "back_translation", lambda: cycle.model.part("text_decoder")(cycle.texts, z), z)
        return nll.sum(), cycle.texts.mask[:, 1:].sum()

    @torch.no_grad()
    def written(self, cycle: Cycle) -> Tokens:
        """A caption (b t) about each image."""
        encoder, decoder = (cast(Any, cycle.model.part(name)) for name in ("image_encoder", "text_decoder"))
        rng = cycle.rng("back_translation").fold("words") if self.temperature else None

        def write() -> Tokens:
            with dropout_off(encoder), dropout_off(decoder):
                written: Tokens = decoder.sample(encoder(cycle.images), rng, temperature=self.temperature)
                return written

        return cycle.through("text_decoder", "write", write, cycle.images)

    @torch.no_grad()
    def drawn(self, cycle: Cycle) -> Tensor:
        """An image (b c h w) for each text."""
        encoder, decoder = (cast(Any, cycle.model.part(name)) for name in ("text_encoder", "image_decoder"))

        def draw() -> Tensor:
            with dropout_off(encoder), dropout_off(decoder):
                return cycle.model.sample_image(encoder(cycle.texts), cycle.rng("back_translation").fold("draw"))

        return cycle.through("image_decoder", "draw", draw, cycle.texts)


class CycleLatent(Loss):
    """How far E_y(D_y(z_x)) is from z_x: the image must hold what the caption's latent says (latent regression: Donahue et al. 2017;
    Zhu et al. 2017b, BicycleGAN).

    Pooled vectors are compared, by 1 − cos or by the mean squared difference. z_x is a target and gets no gradient as such, or both encoders
    would agree on a constant; through the drawn image it does. Where the widths differ a learned projection takes the image's latent to the
    text's.
    """

    def __init__(self, config: CycleLatentConfig, context: Context) -> None:
        super().__init__()
        self.distance = config.distance
        text, image = context.latents["text_encoder"], context.latents["image_encoder"]
        self.project = nn.Identity() if text == image else nn.Linear(image, text, bias=False)

    def forward(self, cycle: Cycle) -> Tensor:
        read, wanted = self.project(cycle.z_fake.pooled), cycle.z_x.pooled.detach()
        if self.distance == "cosine":
            return (1 - F.cosine_similarity(read, wanted, dim=-1)).mean()
        return F.mse_loss(read, wanted)
