"""A critic against the drawing decoder, or the codec. Shapes: b batch, c h w image, p patches of a critic that judges each by itself."""

from __future__ import annotations

from abc import abstractmethod

import torch
import torch.nn.functional as F
from torch import Tensor

from ibllm.plugin import AdversarialLoss, Context, Cycle, Latent, belonging, positives
from ibllm_adversarial.augment import Augmentation
from ibllm_adversarial.config import AugmentedOptions, HingeConfig, NonSaturatingConfig, RelativisticConfig, WGANGPConfig
from ibllm_adversarial.judged import Judged
from ibllm_adversarial.minibatch import compared
from ibllm_adversarial.penalty import score_gradients


def mismatched_latent(cycle: Cycle) -> Latent:
    """The latent of another caption of the whole batch for each item, the last one before it that is none of its image; without its graph.

    Where all captions belong to the image it is the one before.
    """
    (z, who), own = cycle.whole("ibllm_adversarial.mismatched", lambda share: (share.z_x, belonging(share)))
    number = torch.arange(len(z), device=z.pooled.device)
    before = (number[:, None] - number[1:]) % len(z) if len(z) > 1 else number[:, None]
    of_image = positives(who)[before, number[:, None]]
    return z.rows(before.gather(1, of_image.to(torch.uint8).argmin(1, keepdim=True))[:, 0][own])


def told_apart(cycle: Cycle, real: Tensor, fake: Tensor | None, wrong: Tensor | None, zero: bool, certainty: Tensor | None) -> None:
    """Logs how well the critic tells apart what it is shown, from its scores (b) or (b p).

    ``accuracy_generated`` and ``accuracy_mismatched`` are the shares of scores that are below 0, and ``accuracy_real`` that above, where 0 is what the
    loss pulls them apart at (`zero`); otherwise the shares below the real image's own score, and there is no ``accuracy_real``. ``gap`` is the mean real
    score less the mean generated one; ``certainty`` in [0, 1] is near 1 where the loss has nothing left to teach the critic.
    """
    with torch.no_grad():
        level = torch.zeros((), device=real.device) if zero else real
        if zero:
            cycle.log("accuracy_real", (real > 0).float().mean())
        if fake is not None:
            cycle.log("accuracy_generated", (fake < level).float().mean())
            cycle.log("gap", (real - fake).mean())
        if wrong is not None:
            cycle.log("accuracy_mismatched", (wrong < level).float().mean())
        if certainty is not None:
            cycle.log("certainty", certainty)


class _Judging(AdversarialLoss):
    """What adversarial losses share: images as the critic sees them, and its scores of them."""

    #: True where scores of real images are to be above 0 and others below.
    zero = False

    def __init__(self, config: AugmentedOptions, context: Context) -> None:
        super().__init__()
        self.judged, self.augmentation = Judged(config.of, context), Augmentation(config)

    def real(self, cycle: Cycle) -> Tensor:
        """The real images as the critic sees them (b c h w)."""
        return self.augmentation.shown(cycle, self.judged.real(cycle), "real")

    def fake(self, cycle: Cycle) -> Tensor:
        """The generated ones as the critic sees them, with their graph."""
        return self.augmentation.shown(cycle, self.judged.fake(cycle), "generated")

    def score_real(self, cycle: Cycle, y: Tensor, z: Latent | None = None) -> Tensor:
        """(b) or (b p) scores of what `real` gave, with its own captions or with others (z)."""
        return compared(cycle, cycle.score(y, z or self.judged.z(cycle)), y, "real", self.real)

    def score_fake(self, cycle: Cycle, y_fake: Tensor) -> Tensor:
        """(b) or (b p) scores of what `fake` gave."""
        return compared(cycle, cycle.score(y_fake, self.judged.z(cycle)), y_fake, "generated", self.fake)

    def follow(self, cycle: Cycle, real: Tensor, fake: Tensor | None) -> None:
        """The probability of augmentation follows the critic's scores of the whole batch."""

        def signs(share: Cycle) -> Tensor:
            r, f = (real, fake) if share is cycle else (self.score_real(share, self.real(share)), None)
            if self.zero:
                return torch.sign(r)
            return torch.sign(r - (self.score_fake(share, self.fake(share)) if f is None else f))

        self.augmentation.follow(lambda: cycle.whole(f"ibllm_adversarial.signs.{self.judged.reconstruction}", signs)[0], cycle)


class Relativistic(_Judging):
    """The relativistic pairing loss of R3GAN (Huang et al. 2024, eq. 2; Jolicoeur-Martineau 2019), each image with its caption's latent.

    Critic: softplus(−(C(y, z) − C(y_fake, z))), and with the weight `mismatched` softplus(−(C(y, z) − C(y, z'))) for the latent z'
    of another item of the batch (matching-aware: Reed et al. 2016). Model: softplus(−(C(y_fake, z) − C(y, z))).
    A patch is compared with the same patch of the other image. With of = "reconstruction", y_fake is what the codec leaves of y (`Judged`).
    """

    def __init__(self, config: RelativisticConfig, context: Context) -> None:
        super().__init__(config, context)
        self.mismatched = config.mismatched

    def critic(self, cycle: Cycle) -> Tensor:
        self.augmentation.begin(cycle)
        y = self.real(cycle)
        real, fake = self.score_real(cycle, y), self.score_fake(cycle, self.fake(cycle).detach())
        value, wrong = F.softplus(fake - real).mean(), None
        self.follow(cycle, real, fake)
        if self.mismatched:
            wrong = self.score_real(cycle, y, mismatched_latent(cycle))
            value = value + self.mismatched * F.softplus(wrong - real).mean()
        told_apart(cycle, real, fake, wrong, zero=False, certainty=torch.sigmoid(real.detach() - fake.detach()).mean())
        return value

    def forward(self, cycle: Cycle) -> Tensor:
        fake = self.score_fake(cycle, self.fake(cycle))
        with torch.no_grad():  # nothing of the model is behind the real image's score
            real = self.score_real(cycle, self.real(cycle))
        return F.softplus(real - fake).mean()


class _UnpairedScores(_Judging):
    """A loss of each score by itself: real(C(y, z)) + (1 − m)·fake(C(y_fake, z)) + m·fake(C(y, z')), m = `mismatched`.

    z' is the latent of another item of the batch (matching-aware: Reed et al. 2016). Generated and mismatched pairs share
    the weight 1, so that m never changes the balance of real and fake. The model minimises generator(C(y_fake, z)).
    Means are over items, and over patches where the critic judges each by itself. With of = "reconstruction", y_fake is what the codec leaves of y (`Judged`).
    """

    zero = True

    def __init__(self, config: HingeConfig | NonSaturatingConfig | WGANGPConfig, context: Context) -> None:
        super().__init__(config, context)
        self.mismatched = config.mismatched

    @abstractmethod
    def real_loss(self, scores: Tensor) -> Tensor:
        """The critic's loss of the scores of real images with their captions, score by score."""

    @abstractmethod
    def fake_loss(self, scores: Tensor) -> Tensor:
        """The critic's loss of the scores of generated images and of mismatched pairs, score by score."""

    def generator_loss(self, scores: Tensor) -> Tensor:
        """The model's loss of the scores of generated images, score by score."""
        return -scores

    def certainty(self, real: Tensor, fake: Tensor) -> Tensor | None:
        """() in [0, 1], near 1 where the loss has nothing left to teach the critic; None of a loss of which that cannot be said."""
        return None

    def critic(self, cycle: Cycle) -> Tensor:
        self.augmentation.begin(cycle)
        y = self.real(cycle)
        real, fake, wrong = self.score_real(cycle, y), None, None
        value = self.real_loss(real).mean()
        if self.mismatched < 1:
            fake = self.score_fake(cycle, self.fake(cycle).detach())
            value = value + (1 - self.mismatched) * self.fake_loss(fake).mean()
        self.follow(cycle, real, fake)
        if self.mismatched:
            wrong = self.score_real(cycle, y, mismatched_latent(cycle))
            value = value + self.mismatched * self.fake_loss(wrong).mean()
        told_apart(cycle, real, fake, wrong, self.zero, None if fake is None else self.certainty(real.detach(), fake.detach()))
        return value

    def forward(self, cycle: Cycle) -> Tensor:
        return self.generator_loss(self.score_fake(cycle, self.fake(cycle))).mean()


class Hinge(_UnpairedScores):
    """Critic max(0, 1 − real) + max(0, 1 + rejected), model −generated (Lim and Ye 2017; SAGAN: Zhang et al. 2019, eq. 4).

    With `mismatched` = ½ it is DF-GAN's (Tao et al. 2022, section 3.2; its penalty is `matching_aware_penalty`): the real image with its caption against
    half the generated and half the mismatched ones.
    """

    def real_loss(self, scores: Tensor) -> Tensor:
        return F.relu(1 - scores)

    def fake_loss(self, scores: Tensor) -> Tensor:
        return F.relu(1 + scores)

    def certainty(self, real: Tensor, fake: Tensor) -> Tensor:
        """The share of scores beyond the margin, which have no gradient."""
        return ((real >= 1).float().mean() + (fake <= -1).float().mean()) / 2


class NonSaturating(_UnpairedScores):
    """Critic −log σ(real) − log(1 − σ(rejected)), model −log σ(generated) instead of log(1 − σ(generated)) (Goodfellow et al. 2014, section 3).

    −log σ(s) = softplus(−s) and −log(1 − σ(s)) = softplus(s). With `mismatched` = ½ the critic's side is GAN-CLS (Reed et al. 2016, algorithm 1).
    """

    def real_loss(self, scores: Tensor) -> Tensor:
        return F.softplus(-scores)

    def fake_loss(self, scores: Tensor) -> Tensor:
        return F.softplus(scores)

    def generator_loss(self, scores: Tensor) -> Tensor:
        return F.softplus(-scores)

    def certainty(self, real: Tensor, fake: Tensor) -> Tensor:
        """The mean probability that the critic gives to what is so."""
        return (torch.sigmoid(real).mean() + torch.sigmoid(-fake).mean()) / 2


class WGANGP(_UnpairedScores):
    """Critic rejected − real + λ·E(‖∇C(ŷ, z)‖₂ − 1)², ŷ = ε·y + (1 − ε)·y_fake with ε uniform; model −generated (Gulrajani et al. 2017, eq. 3).

    ε is drawn once for an image; the gradient is by the image, the norm over everything of one item.
    """

    zero = False  # a constant on all scores changes no value

    def __init__(self, config: WGANGPConfig, context: Context) -> None:
        super().__init__(config, context)
        self.penalty = config.penalty

    def real_loss(self, scores: Tensor) -> Tensor:
        return -scores

    def fake_loss(self, scores: Tensor) -> Tensor:
        return scores

    def critic(self, cycle: Cycle) -> Tensor:
        value = super().critic(cycle)
        if not self.penalty:
            return value
        y, y_fake = self.real(cycle), self.fake(cycle).detach()
        between = torch.lerp(y_fake.to(y), y, cycle.rng("wgan_gp").uniform(1, 1, 1).to(y))
        norms = torch.linalg.vector_norm(score_gradients(cycle, between, self.judged.z(cycle)), dim=1)
        cycle.log("slope", norms.mean())
        penalty = (norms - 1).square().mean()
        cycle.log("penalty", penalty)
        return value + self.penalty * penalty
