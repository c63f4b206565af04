"""D_y as a painter of ellipses.

Shapes: b batch, k ellipses, h w height and width in pixels, c channels, n latent places, d their width, e numbers of noise.
"""

from __future__ import annotations

import attrs
import torch
from ibllm.plugin import Context, DrawingDecoder, Latent, generalised_normal
from torch import Tensor, nn

from ibllm_ellipses.config import EllipseDecoderConfig

#: Smallest and largest half axis; the image's height is 2.
SMALLEST, LARGEST = 0.02, 1.0
#: Narrowest edge in pixels: anything less is jagged.
SHARPEST = 0.3
#: Numbers of an ellipse beside its colour: centre (2), half axes (2), direction (2), opacity (1), edge (1).
NUMBERS = 8


@attrs.define(eq=False, slots=False)  # torch.compile cannot trace a frozen class
class Painting:
    """What is painted, the first ellipse lowest. Lengths are in halves of the image's height, the origin its centre, y downwards.

    Attributes:
        ground: (b c) colour in [−1, 1].
        centre: (b k 2) x and y.
        axes: (b k 2) half axes.
        direction: (b k 2) cosine and sine of the angle between the first axis and x.
        colour: (b k c) in [−1, 1].
        opacity: (b k) in [0, 1].
        edge: (b k) how wide its edge is.
    """

    ground: Tensor
    centre: Tensor
    axes: Tensor
    direction: Tensor
    colour: Tensor
    opacity: Tensor
    edge: Tensor


class EllipseDecoder(DrawingDecoder):
    """A network lays out ellipses, and a fixed renderer paints them with soft edges, so gradients reach place, size, angle and colour."""

    # The grid of pixels, (h w 2): recomputed from the image's shape, so no part of the weights.
    pixels: Tensor
    extent: Tensor

    def __init__(self, config: EllipseDecoderConfig, context: Context) -> None:
        super().__init__()
        self.noise_width, self.ellipses, self.scale, self.focus = config.noise, config.ellipses, config.scale, config.focus
        self.channels, self.height, self.width = context.image_shape
        self.sharpest, self.softest = SHARPEST * 2 / self.height, config.softness * 2 / self.height
        width, before = config.width or context.width, (config.latent or context.latent) + config.noise
        layers: list[nn.Module] = []
        for _ in range(config.depth):
            layers += [nn.Linear(before, width), nn.GELU()]
            before = width
        layout = nn.Linear(before, config.ellipses * (NUMBERS + self.channels) + self.channels)
        # Apart from the start: ellipses in one place would all get the same gradient and stay there.
        nn.init.uniform_(layout.bias, -1.5, 1.5)
        self.network = nn.Sequential(*layers, layout)
        y, x = (torch.arange(size) + 0.5 - size / 2 for size in (self.height, self.width))
        grid = torch.stack(torch.meshgrid(x, y, indexing="xy"), -1) * 2 / self.height
        self.register_buffer("pixels", grid, persistent=False)
        self.register_buffer("extent", torch.tensor([self.width / self.height, 1.0]), persistent=False)

    def layout(self, z: Latent, noise: Tensor) -> Painting:
        """latent (b n d), noise (b e) → what to paint."""
        raw = self.network(torch.cat([z.pooled, noise.to(z.pooled.dtype)], -1)).float()
        ground, rest = raw[:, : self.channels], raw[:, self.channels :].unflatten(1, (self.ellipses, NUMBERS + self.channels))
        centre, axes, direction, opacity, edge, colour = rest.split([2, 2, 2, 1, 1, self.channels], -1)
        return Painting(
            ground=ground.tanh(),
            centre=centre.tanh() * self.extent,
            axes=SMALLEST + (LARGEST - SMALLEST) * (axes - 1).sigmoid(),
            direction=nn.functional.normalize(direction, dim=-1, eps=1e-4),
            colour=colour.tanh(),
            opacity=opacity.squeeze(-1).sigmoid(),
            # Soft at first: where nothing of the right place is covered yet, a sharp edge has no gradient.
            edge=self.sharpest + (self.softest - self.sharpest) * (edge.squeeze(-1) + 1).sigmoid(),
        )

    def draw(self, z: Latent, noise: Tensor) -> Tensor:
        return self.paint(self.layout(z, noise))

    def paint(self, painting: Painting) -> Tensor:
        """(b c h w): each ellipse *over* what is below it (Porter and Duff 1984, section 4.3)."""
        covered = self.coverage(painting)
        # What is seen of an ellipse is what it covers times what all those above it leave free.
        free = torch.cat([1 - covered, torch.ones_like(covered[:, :1])], 1).flip(1).cumprod(1).flip(1)
        image = torch.einsum("bkhw,bkc->bchw", covered * free[:, 1:], painting.colour)
        return image + free[:, :1] * painting.ground[:, :, None, None]

    def coverage(self, painting: Painting) -> Tensor:
        """(b k h w) opacity in [0, 1]: a logistic function of the distance to the edge over the edge's width.

        With ρ = ‖R(p − m)/a‖ for a pixel p, centre m, rotation R and half axes a, the distance is taken as (1 − ρ)·min(a): exact for
        circles, and along the shorter axis.
        """
        offset = self.pixels - painting.centre[:, :, None, None]
        cosine, sine = painting.direction[:, :, None, None].unbind(-1)
        along = torch.stack([offset[..., 0] * cosine + offset[..., 1] * sine, offset[..., 1] * cosine - offset[..., 0] * sine], -1)
        radius = (along / painting.axes[:, :, None, None]).square().sum(-1).add(1e-6).sqrt()
        inside = (1 - radius) * painting.axes.amin(-1)[:, :, None, None]
        return painting.opacity[:, :, None, None] * (inside / painting.edge[:, :, None, None]).sigmoid()

    def likelihood(self, y: Tensor, drawn: Tensor) -> Tensor:
        return generalised_normal(y, drawn, self.scale, exponent=2.0, focus=self.focus)
