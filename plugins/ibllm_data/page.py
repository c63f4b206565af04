"""The page: what was found, and what the model will see, as one self-contained HTML file in the style of a run's report."""

from __future__ import annotations

import base64
import io
from typing import Any

from ibllm_report.files import Picture

from .looking import Data, Look, Pixels
from .tables import tables

#: Records that are left out and listed.
_LEFT_OUT = 200


def page(found: Look) -> str:
    """The whole page as HTML."""
    from jinja2 import ChoiceLoader, Environment, PackageLoader, StrictUndefined

    environment = Environment(
        loader=ChoiceLoader([PackageLoader("ibllm_data"), PackageLoader("ibllm_report")]),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    return environment.get_template("data.html.j2").render(
        name=found.recipe,
        refused=found.refused,
        data=[_about(data) for data in found.data],
        tables=tables(found),
        grids=[grid for data in found.data for grid in _grids(data, len(found.data) > 1)],
        notes=[note for data in found.data for note in data.notes],
        left_out=[line for data in found.data for line in data.left_out],
        most=_LEFT_OUT,
        attributions=list(dict.fromkeys(data.attribution for data in found.data if data.attribution)),
    )


def _about(data: Data) -> dict[str, Any]:
    items = {split.name: split.items for split in data.splits}
    return {
        "place": data.place,
        "use": data.use,
        "provider": data.provider,
        "fingerprint": data.fingerprint,
        "licence": data.licence,
        "items": items,
    }


def _grids(data: Data, several: bool) -> list[dict[str, Any]]:
    _, h, w = data.shape
    of = f" of {data.place}" if several else ""
    found = []
    for split in data.splits:
        items = [{"picture": picture(pixels), "caption": caption, "language": code} for pixels, caption, code in split.shown]
        if items:
            size = f"{w}×{h} pixels, {data.fitting}" if data.fitting else f"{w}×{h} pixels"
            found.append({"split": f"{split.name}{of}", "items": items, "size": size, "pictures": items[0]["picture"] is not None})
    return found


def picture(pixels: Pixels | None) -> Picture | None:
    """(h w c) as a picture of the page."""
    if pixels is None:
        return None
    from PIL import Image

    out = io.BytesIO()
    Image.fromarray(pixels if pixels.shape[-1] > 1 else pixels[..., 0]).save(out, "PNG")
    uri = f"data:image/png;base64,{base64.b64encode(out.getvalue()).decode()}"
    return Picture(uri=uri, width=pixels.shape[1], height=pixels.shape[0])
