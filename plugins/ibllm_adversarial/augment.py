"""Differentiable augmentation of what a critic sees, with an adaptive probability. Shapes: b batch, c h w image, B items of the whole batch."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn

from ibllm.plugin import Cycle, Rng
from ibllm_adversarial.config import AugmentedOptions

#: Largest shift, as a share of the image's size, and size of what is cut out (Zhao et al. 2020).
SHIFT, CUT = 1 / 8, 1 / 2
#: How much of a batch's overfitting goes into the mean that is compared with the target: about four batches, as in ADA.
TAKEN_IN = 0.25


def color(y: Tensor, rng: Rng) -> Tensor:
    """Brightness by up to ±½, saturation by a factor in [0, 2), contrast by one in [½, 1½)."""
    brightness, saturation, contrast = rng.uniform(3, 1, 1, 1).to(y).unbind(1)
    y = y + (brightness - 0.5)
    grey = y.mean(1, keepdim=True)
    y = grey + (y - grey) * (2 * saturation)
    mean = y.mean((1, 2, 3), keepdim=True)
    return mean + (y - mean) * (contrast + 0.5)


def translation(y: Tensor, rng: Rng) -> Tensor:
    """Shifted by whole pixels; the border is repeated, where the authors fill with grey, which no picture on black or white has."""
    for axis in (2, 3):
        size = y.shape[axis]
        most = int(size * SHIFT + 0.5)
        places = torch.arange(size, device=y.device) - (rng.integers(2 * most + 1, 1) - most)
        shape = [len(y), 1, 1, 1]
        shape[axis] = size
        y = y.gather(axis, places.clamp(0, size - 1).view(shape).expand_as(y))
    return y


def cutout(y: Tensor, rng: Rng) -> Tensor:
    """A square of half the size, anywhere, also over the edge, becomes grey."""
    inside = []
    for size in y.shape[2:]:
        width = int(size * CUT + 0.5)
        first = rng.integers(size + 1 - width % 2, 1) - width // 2
        places = torch.arange(size, device=y.device)
        inside.append((places >= first) & (places < first + width))
    rows, columns = inside
    return y.masked_fill((rows[:, :, None] & columns[:, None])[:, None], 0.0)


OPERATIONS: dict[str, Callable[[Tensor, Rng], Tensor]] = {"color": color, "translation": translation, "cutout": cutout}


class Augmentation(nn.Module):
    """DiffAugment (Zhao et al. 2020): real and generated images are shown to the critic through random, differentiable operations; so are those that the
    model is trained by. Each operation is done to each image with a probability p.

    With a target p follows overfitting, as in ADA (Karras et al. 2020): r = E sign(score of real images), or of their lead over generated ones where
    the loss compares them, over all images of the batch, however it is shared; p rises by (items of the batch) / `augment_images` where a mean of r
    over about four batches is above the target, and falls otherwise. p is one number for a whole iteration, and follows the batch before.

    Attributes:
        probability: p, () where it adapts.
        coming: () p of the next iteration.
        overfitting: () the mean of r.
    """

    def __init__(self, options: AugmentedOptions) -> None:
        super().__init__()
        self.operations, self.target, self.images = options.augment, options.augment_target, options.augment_images
        start = options.augment_probability
        start = start if start is not None else (0.0 if self.target else 1.0)
        self.probability: Tensor | float = start
        self.coming: Tensor
        self.overfitting: Tensor
        if self.target:
            del self.probability
            for name, value in (("probability", start), ("coming", start), ("overfitting", 0.0)):
                self.register_buffer(name, torch.tensor(value))

    def begin(self, cycle: Cycle) -> None:
        """Of a critic's turn in training: p becomes what the batch before has led to."""
        if self.target and self.training and cycle.number == 0:
            assert isinstance(self.probability, Tensor)
            self.probability.copy_(self.coming)

    def shown(self, cycle: Cycle, y: Tensor, what: str) -> Tensor:
        """y (b c h w) as the critic sees it; in one iteration always alike. Held-out losses are of images as they are."""
        if not self.operations or not self.training:
            return y
        for name in self.operations:
            rng = cycle.rng(f"ibllm_adversarial.{what}.{name}")
            done = rng.uniform(1, 1, 1) < self.probability
            y = torch.where(done, OPERATIONS[name](y, rng), y)
        return y

    def follow(self, signs: Callable[[], Tensor], cycle: Cycle) -> None:
        """Takes in the signs (B …) of the whole batch's scores, which are asked for once an iteration."""
        if not self.target or not self.training or cycle.number:
            return
        assert isinstance(self.probability, Tensor)
        with torch.no_grad():
            found = signs()
            self.overfitting.lerp_(found.mean().to(self.overfitting), TAKEN_IN)
            step = torch.sign(self.overfitting - self.target) * (len(found) / self.images)
            self.coming.copy_((self.probability + step).clamp(0, 1))
        cycle.log("augment_probability", self.probability.clone())
        cycle.log("overfitting", self.overfitting.clone())
