"""Word–region attention. Shapes: i captions, j images (both the batch), t words, n regions, e width of the common space."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ibllm.plugin import Belonging, Context, Cycle, Latent, Rng, WholeBatchLoss, at_least_float32, belonging, cross_entropy, positives
from ibllm_agreement.config import DAMSMConfig


def word_scores(words: Latent, regions: Latent, sharpness: float, pooling: float) -> Tensor:
    """Captions (i t e), images (j n e) → (i j) R(image, caption), the attention-driven score: Xu et al. 2018 (AttnGAN), eqs. 7–10.

    Keeps i·j·t·(n + e) numbers for the backward pass, more than once.
    """
    e, v = words.tokens, regions.tokens
    word, region = words.mask[:, None, :, None], regions.mask[None, :, None, :]
    products = torch.einsum("ite,jne->ijtn", e, v)  # eq. 7
    shares = products.masked_fill(~word, -torch.inf).softmax(2)  # eq. 8: over the words
    attention = (sharpness * shares).masked_fill(~region, -torch.inf).softmax(3)  # eq. 9
    contexts = torch.einsum("ijtn,jne->ijte", attention, v)
    relevance = F.cosine_similarity(contexts, e[:, None], dim=3)
    return (pooling * relevance).masked_fill(~words.mask[:, None], -torch.inf).logsumexp(2) / pooling  # eq. 10


def sentence_scores(words: Latent, regions: Latent) -> Tensor:
    """(i j) cosines of the pooled vectors."""
    return F.normalize(words.pooled, dim=-1) @ F.normalize(regions.pooled, dim=-1).T


class DAMSM(WholeBatchLoss):
    """L₁ʷ + L₂ʷ + L₁ˢ + L₂ˢ, the deep attentional multimodal similarity (Xu et al. 2018, eqs. 11–13), as means over the batch.

    Captions of one image, and images of one caption, belong together (`ibllm.plugin.positives`). A word is a token that the caption's mask keeps,
    a region a place of the image's latent. With ``images = "generated"`` the images are those
    drawn from the captions, which is how AttnGAN trains its generator (there times 5 to 50).
    """

    def __init__(self, config: DAMSMConfig, context: Context) -> None:
        super().__init__()
        self.config = config
        text, image, width = context.latents["text_encoder"], context.latents["image_encoder"], config.width
        if not width and text != image:
            raise ValueError(f"width = 0: expected encoders of one width, but text_encoder gives {text}, image_encoder {image}")
        self.text = nn.Linear(text, width, bias=False) if width else nn.Identity()
        self.image = nn.Linear(image, width, bias=False) if width else nn.Identity()

    def represent(self, cycle: Cycle) -> tuple[Latent, Latent, Belonging]:
        """The words and regions in the common space, and what says which belong together."""
        z = cycle.z_y if self.config.images == "real" else cycle.z_fake
        return _project(self.text, cycle.z_x), _project(self.image, z), belonging(cycle)

    def text_point(self, z: Latent) -> Tensor:
        """A caption's latent → unit vectors (b e): the sentence in the common space."""
        return F.normalize(_project(self.text, z).pooled, dim=-1)

    def image_point(self, z: Latent) -> Tensor:
        """An image's latent → unit vectors (b e)."""
        return F.normalize(_project(self.image, z).pooled, dim=-1)

    def compare(self, together: tuple[Latent, Latent, Belonging], rng: Rng) -> Tensor:
        words, regions, who = together
        right = positives(who)
        by_word = word_scores(words, regions, self.config.word_sharpness, self.config.word_pooling)
        scaled = [self.config.scale * scores for scores in (by_word, sentence_scores(words, regions))]
        return torch.stack([cross_entropy(scores, right) + cross_entropy(scores.T, right.T) for scores in scaled]).sum()


def _project(by: nn.Module, z: Latent) -> Latent:
    """In full precision, and outside autocast's reach: what follows are softmaxes of products."""
    return Latent(at_least_float32(by(z.tokens)), z.mask, at_least_float32(by(z.pooled)))
