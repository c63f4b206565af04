"""Which captions of a batch belong to which of its images: an image may have several captions, and a caption several images. Shapes: b batch, t tokens."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from ibllm_core.model.cycle import Cycle

#: The captions' ids (b t), and the number of the image that each item is of (b), −1 where data do not say (`Samples.groups`).
Belonging = tuple[Tensor, Tensor]


def belonging(cycle: Cycle) -> Belonging:
    """What `positives` compares, of one share of the batch: tensors that shares may join."""
    groups = cycle.batch.groups
    return cycle.x.ids, torch.full((len(cycle),), -1, device=cycle.x.ids.device) if groups is None else groups


def positives(together: Belonging) -> Tensor:
    """(b b) True where the caption of the row is one of the image of the column: some item of that image has a caption of these words."""
    ids, groups = together
    own = torch.eye(len(ids), dtype=torch.bool, device=ids.device)
    same_words = torch.ones_like(own)
    for place in ids.T:  # one after the other: b × b × t numbers would be too many
        same_words &= place[:, None] == place
    same_image = ((groups[:, None] == groups) & (groups >= 0)) | own
    return (same_words.float() @ same_image.float()) > 0


def cross_entropy(scores: Tensor, right: Tensor) -> Tensor:
    """Scores (b b) and which of them are right (b b) → (), the mean over rows of the cross-entropy with equal shares for all that is right.

    Yang et al. 2022 (UniCL), eq. 3. Where one a row is right it is the usual one.
    """
    return F.cross_entropy(scores, right.to(scores) / right.sum(1, keepdim=True))
