"""Round trips that start from an image or end in a latent. Shapes: b batch, t tokens, v vocabulary, e embedding width, d latent width."""

from __future__ import annotations

from typing import cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ibllm.plugin import Context, Cycle, Latent, Loss, TextDecoder, TextEncoder, Tokens, UserError, dropout_off
from ibllm_objectives.config import CycleImageConfig, CycleLatentConfig


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
        tokenizers = cycle.model.tokenizers
        if tokenizers.get("text_encoder") is not tokenizers.get("text_decoder"):
            raise UserError(
                "cycle_image: the text encoder reads the very tokens that the text decoder writes, so both need the same tokenizer; "
                "expected model.text_encoder.tokenizer = model.text_decoder.tokenizer"
            )
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
