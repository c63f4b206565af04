"""Likelihoods of images and texts. Shapes: b batch, t tokens of a text, c h w image."""

from __future__ import annotations

from abc import abstractmethod

from torch import Tensor

from ibllm.plugin import Context, Cycle, Loss, Tokens, Value
from ibllm_objectives.config import AnswerNLLConfig, CycleNLLConfig, ImageNLLConfig, QuestionNLLConfig, TextNLLConfig
from ibllm_objectives.pixel_likelihood import LogisticMixture, gaussian_nll, laplace_nll


class ImageNLL(Loss):
    """L_text = −E log p(y|x), in nats a dimension or an image: what the image decoder calls its own, or a likelihood around the drawn image.

    `l1` and `l2` are densities (`laplace_nll`, `gaussian_nll`), their constants included; a density's nats a dimension plus log 127.5 compare
    with those of `logistic_mixture` (`LogisticMixture`), a probability of the 256 levels. The decoder's own may leave constants out.
    """

    def __init__(self, config: ImageNLLConfig, context: Context) -> None:
        super().__init__()
        self.kind, self.per, self.scale = config.kind, config.per, config.scale
        self.mixture = LogisticMixture(context.image_shape[0], config.components) if config.kind == "logistic_mixture" else None

    def forward(self, cycle: Cycle) -> Value:
        mean = self.nll(cycle).mean()
        return mean / cycle.y[0].numel() if self.per == "dimension" else mean

    def nll(self, cycle: Cycle) -> Tensor:
        """(b) in nats an image."""
        if self.mixture is not None:
            return self.mixture.nll(cycle.y, cycle.y_fake)
        if self.kind == "own":
            return cycle.image_nll
        return {"l1": laplace_nll, "l2": gaussian_nll}[self.kind](cycle.y, cycle.y_fake, self.scale)


class _TextLoss(Loss):
    """The mean over texts, or over the tokens predicted: every token after the beginning, the end included."""

    def __init__(self, config: TextNLLConfig | AnswerNLLConfig | QuestionNLLConfig | CycleNLLConfig, context: Context) -> None:
        super().__init__()
        self.per = config.per

    @abstractmethod
    def nll(self, cycle: Cycle) -> Tensor:
        """(b) in nats a text."""

    def tokens(self, cycle: Cycle) -> Tokens:
        """The texts that are predicted."""
        return cycle.x_out

    def count(self, cycle: Cycle) -> Tensor | None:
        return None if self.per == "sample" else self.tokens(cycle).mask[:, 1:].sum()

    def forward(self, cycle: Cycle) -> Value:
        nll, count = self.nll(cycle), self.count(cycle)
        return nll.mean() if count is None else (nll.sum(), count)


class TextNLL(_TextLoss):
    """L_image = −E log p(x|y) = −E Σ_t log p(x_t | x_<t, y), in nats a token or a text."""

    def nll(self, cycle: Cycle) -> Tensor:
        return cycle.text_nll


class AnswerNLL(_TextLoss):
    """−E log p(answer | y, question): the question conditions the text decoder and is not itself counted."""

    def nll(self, cycle: Cycle) -> Tensor:
        return cycle.answer_nll

    def tokens(self, cycle: Cycle) -> Tokens:
        return cycle.answer


class QuestionNLL(_TextLoss):
    """−E log p(question | y): the text decoder learns to ask. It is told so by a prefix, a second beginning (`ibllm_core.interfaces.text.asking`)."""

    def nll(self, cycle: Cycle) -> Tensor:
        return cycle.question_nll

    def tokens(self, cycle: Cycle) -> Tokens:
        return cycle.question


class CycleNLL(_TextLoss):
    """−E log p(x | E_y(D_y(E_x(x)))): the caption must be readable off the image drawn from it.

    The text half of cycle consistency (Zhu et al. 2017) with a likelihood for its distance; MirrorGAN (Qiao et al. 2019, eq. 8)
    calls it the semantic text regeneration loss.
    """

    def nll(self, cycle: Cycle) -> Tensor:
        return cycle.cycle_nll
