"""``ibllm ellipses``: a drawing as a vector graphic. Imported only when the command is called; torch, when it runs."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click
from ibllm.plugin import UserError

if TYPE_CHECKING:
    from torch import Tensor

    from ibllm_ellipses.image_decoder import Painting


@click.command()
@click.argument("run", type=click.Path(path_type=Path, file_okay=False))
@click.argument("caption")
@click.option("--out", type=click.Path(path_type=Path, dir_okay=False), default=Path("drawing.svg"), help="The file; drawing.svg.")
def command(run: Path, caption: str, out: Path) -> None:
    """Draw CAPTION with the model of RUN, as an SVG picture that can be enlarged and edited.

    RUN is the directory of a finished run whose image decoder is `ellipses`.
    """
    import ibllm
    from ibllm.plugin import Rng, to_tokens

    from ibllm_ellipses.image_decoder import EllipseDecoder

    model = ibllm.open(run).model
    decoder = model.part("image_decoder")
    if not isinstance(decoder, EllipseDecoder):
        raise UserError(f"{run}: its image decoder is a {type(decoder).__name__}; expected a run with image_decoder.ellipses")
    with model.inference():
        z = model.part("text_encoder")(to_tokens(model.tokenizers["text_encoder"], [caption]).to(model.device))
        painting = decoder.layout(z, decoder.noise(z, Rng((0, "generate"), [0], model.device)))
    _, height, width = model.image_shape
    try:
        out.write_text(svg(painting, width / height), encoding="utf-8")
    except OSError as error:
        raise UserError(f"cannot write {out}: {error.strerror}") from error
    click.echo(f"{out}  {decoder.ellipses} ellipses")


def svg(painting: Painting, aspect: float) -> str:
    """The first item of a painting; `aspect` is its width over its height."""
    import torch

    numbers = torch.cat([painting.centre, painting.axes, painting.direction, painting.opacity[..., None]], -1)[0].tolist()
    shapes = [
        f'<ellipse rx="{a:.4f}" ry="{b:.4f}" fill="{_hex(colour)}" fill-opacity="{opacity:.3f}" '
        f'transform="matrix({cosine:.4f} {sine:.4f} {-sine:.4f} {cosine:.4f} {x:.4f} {y:.4f})"/>'
        for (x, y, a, b, cosine, sine, opacity), colour in zip(numbers, painting.colour[0], strict=True)
    ]
    left, width = -aspect, 2 * aspect
    head = f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="{left:.4f} -1 {width:.4f} 2" width="{256 * width:.0f}" height="512">'
    ground = f'<rect x="{left:.4f}" y="-1" width="{width:.4f}" height="2" fill="{_hex(painting.ground[0])}"/>'
    return "\n".join([head, ground, *shapes, "</svg>", ""])


def _hex(colour: Tensor) -> str:
    """c numbers in [−1, 1] → #rrggbb; one number is a grey."""
    levels = [round(127.5 * (value + 1)) for value in colour.expand(3).tolist()]
    return "#" + "".join(f"{level:02x}" for level in levels)
