"""The layers that the convolutional image parts share. Shapes: b batch, c channels, h w map."""

from __future__ import annotations

from collections import OrderedDict

from torch import nn

from ibllm.plugin import Residual


def residual_block(channels: int, groups: int) -> Residual:
    """(b c h w) → (b c h w): two 3×3 convolutions, each behind a group norm and GELU (pre-activation, He et al. 2016b)."""
    body = nn.Sequential(
        nn.GroupNorm(groups, channels),
        nn.GELU(),
        nn.Conv2d(channels, channels, 3, padding=1),
        nn.GroupNorm(groups, channels),
        nn.GELU(),
        nn.Conv2d(channels, channels, 3, padding=1),
    )
    return Residual(OrderedDict(body=body))
