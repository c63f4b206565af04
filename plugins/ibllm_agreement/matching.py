"""Image–text matching. Shapes: b batch, n places of the text, m of the image, e width of the transformer."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ibllm.plugin import Belonging, Context, Cycle, Latent, Rng, WholeBatchLoss, at_least_float32, belonging, positives
from ibllm_agreement.config import MatchingConfig


def sample_mismatch(logits: Tensor, excluded: Tensor, rng: Rng) -> Tensor:
    """logits (b k), excluded (b k) bool → (b), one of those not excluded each, drawn from the softmax over them (Gumbel-max)."""
    # Half a step above 0, the least that `uniform` gives.
    gumbel = -torch.log(-torch.log(rng.uniform(logits.shape[1]).to(logits) + 2.0**-25))
    return (logits + gumbel).masked_fill(excluded, -torch.inf).argmax(1)


class Matching(WholeBatchLoss):
    """E H(y, p(x, y)) over pairs and mismatches, H the binary cross-entropy: Li et al. 2021 (ALBEF), eq. 3; BLIP's image–text matching.

    For each image a caption and for each caption an image of the batch are drawn as mismatches, in proportion to the softmax of their
    similarity (section 3.2), never the own one, none of the same image and none whose caption has the same words (`ibllm.plugin.positives`).
    Differences to ALBEF: text and image go through one transformer as one sequence rather than by cross-attention, one logit replaces two classes,
    and the similarity has projections of its own, trained by InfoNCE on the pooled latents detached: drawing hard mismatches adds no contrastive
    objective to the encoders, nor anything to the value.

    Mismatches that are much alike teach little before the encoders agree at all: train it together with a contrastive loss or `damsm`, or with
    ``mismatches = "any"`` at first.
    """

    def __init__(self, config: MatchingConfig, context: Context) -> None:
        super().__init__()
        text, image, width = context.latents["text_encoder"], context.latents["image_encoder"], config.width
        self.scale, self.similar = config.scale, config.mismatches == "similar"
        self.text, self.image = nn.Linear(text, width), nn.Linear(image, width)
        if self.similar:
            self.similar_text, self.similar_image = nn.Linear(text, width, bias=False), nn.Linear(image, width, bias=False)
        self.start = nn.Parameter(torch.randn(width) * 0.02)
        self.kinds = nn.Parameter(torch.randn(2, width) * 0.02)
        hidden = max(1, int(width * config.ratio))
        self.layers = nn.ModuleList(
            nn.TransformerEncoderLayer(width, config.heads, hidden, dropout=0.0, activation="gelu", batch_first=True, norm_first=True)
            for _ in range(config.depth)
        )
        self.head = nn.Sequential(nn.LayerNorm(width), nn.Linear(width, 1))

    def match(self, z_x: Latent, z_y: Latent) -> Tensor:
        """Latents of captions (b n d) and images (b m d) → logits (b), high where they belong together."""
        text, image = self.text(z_x.tokens) + self.kinds[0], self.image(z_y.tokens) + self.kinds[1]
        start = self.start.to(text.dtype).expand(len(text), 1, -1)
        x, mask = torch.cat([start, text, image], 1), torch.cat([z_x.mask.new_ones(len(text), 1), z_x.mask, z_y.mask], 1)
        for layer in self.layers:
            x = layer(x, src_key_padding_mask=~mask)
        logits: Tensor = self.head(x[:, 0]).squeeze(1)
        return logits

    def similarity(self, z_x: Latent, z_y: Latent) -> Tensor:
        """(b b) scaled cosines of every caption (row) with every image (column), in full precision; the latents get no gradient."""
        x, y = at_least_float32(self.similar_text(z_x.pooled.detach())), at_least_float32(self.similar_image(z_y.pooled.detach()))
        return self.scale * (F.normalize(x, dim=-1) @ F.normalize(y, dim=-1).T)

    def represent(self, cycle: Cycle) -> tuple[Latent, Latent, Belonging]:
        """The latents of captions and images, and what says which belong together."""
        return cycle.z_x, cycle.z_y, belonging(cycle)

    def compare(self, together: tuple[Latent, Latent, Belonging], rng: Rng) -> Tensor:
        z_x, z_y, who = together
        own = torch.arange(len(z_x), device=z_x.pooled.device)
        right = positives(who)
        similarity = self.similarity(z_x, z_y) if self.similar else z_x.pooled.new_zeros(right.shape)
        other_text = sample_mismatch(similarity.detach().T, right.T, rng.fold("text"))
        other_image = sample_mismatch(similarity.detach(), right, rng.fold("image"))
        logits = at_least_float32(self.match(z_x.rows(torch.cat([own, other_text, own])), z_y.rows(torch.cat([own, own, other_image]))))
        # Where all of the batch belongs together (one item, for instance) there is no mismatch.
        text, image = ((~some).any(1).to(logits) for some in (right.T, right))
        labels = torch.cat([torch.ones_like(text), torch.zeros_like(text), torch.zeros_like(image)])
        weights = torch.cat([torch.ones_like(text), text, image])
        value = F.binary_cross_entropy_with_logits(logits, labels, weights, reduction="sum") / weights.sum()
        if not self.similar:
            return value
        apart = similarity.masked_fill(right & (own[:, None] != own), -torch.inf)
        learned = F.cross_entropy(apart, own) + F.cross_entropy(apart.T, own)
        return value + (learned - learned.detach())
