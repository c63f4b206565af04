"""The layers that the convolutional image parts share. Shapes: b batch, c channels, h w map."""

from __future__ import annotations

from torch import Tensor, nn


class Residual(nn.Module):
    """Two 3×3 convolutions behind norms, beside a residual (pre-activation, He et al. 2016)."""

    def __init__(self, channels: int, groups: int) -> None:
        super().__init__()
        self.body = nn.Sequential(
            nn.GroupNorm(groups, channels),
            nn.GELU(),
            nn.Conv2d(channels, channels, 3, padding=1),
            nn.GroupNorm(groups, channels),
            nn.GELU(),
            nn.Conv2d(channels, channels, 3, padding=1),
        )

    def forward(self, x: Tensor) -> Tensor:
        """(b c h w) → (b c h w)."""
        out: Tensor = x + self.body(x)
        return out
