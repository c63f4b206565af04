"""What image tokenizers are asked."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from ibllm_core.interfaces.image import Reconstruction

from .checks import expect, has_shape, same
from .inputs import Inputs
from .parts import PartSuite


class ImageTokenizerSuite(PartSuite):
    """Image ↔ discrete tokens."""

    kind = "image_tokenizer"

    def passes(self, part: Any, m: Inputs) -> dict[str, Tensor]:
        found, ids = part(m.y), part.encode(m.y)
        return {"image": found.image, "commitment": found.commitment, "ids": ids, "decoded": part.decode(ids)}

    def check_shapes(self, part: Any, m: Inputs) -> None:
        places = part.grid[0] * part.grid[1]
        found, ids = part(m.y), part.encode(m.y)
        expect(isinstance(found, Reconstruction), f"{self._name}: reconstruct gave a {type(found).__name__}, not a Reconstruction")
        has_shape("image", found.image, "b c h w", m.y.shape)
        has_shape("commitment", found.commitment, "b", (len(m),))
        has_shape("reconstruct's ids", found.ids, "b m", (len(m), places))
        has_shape("ids", ids, "b m", (len(m), places))
        has_shape("decode", part.decode(ids), "b c h w", m.y.shape)
        if ids.device.type == "meta":
            return
        well = ids.dtype == torch.int64 and int(ids.min()) >= 0 and int(ids.max()) < part.vocabulary
        expect(well, f"{self._name}: ids are {ids.dtype} in [{ids.min()}, {ids.max()}]: expected int64 in [0, {part.vocabulary})")
        every = torch.arange(len(m) * places, device=ids.device).remainder(part.vocabulary).view(len(m), places)
        for what, image in (("reconstruct", found.image), ("decode", part.decode(every))):
            far = float(image.detach().abs().max())
            expect(far <= 1 + 1e-5, f"{self._name}: {what} reaches {far:.3g}: the interface says images in [−1, 1]")

    def objective(self, part: Any, m: Inputs) -> Tensor:
        found = part(m.y)
        total: Tensor = (found.image - m.y).float().square().flatten(1).mean(1).sum() + found.commitment.sum()
        return total

    def test_reconstructing_is_encoding_and_decoding(self, device: torch.device) -> None:
        """In evaluation mode `reconstruct` gives the ids of `encode` and the image that `decode` makes of them."""
        part, m = self._ready(device)
        with torch.no_grad():
            found, ids = part(m.y), part.encode(m.y)
            whole = {"ids": found.ids, "image": found.image}
            same({"ids": ids, "image": part.decode(ids)}, whole, f"{self._name}: the two ways must agree")

    def test_the_commitment_is_what_is_declared(self, device: torch.device) -> None:
        """Capability ``codebook``: the commitment is not negative and trains something; without it, it is zero."""
        part, m = self._ready(device)
        commitment = part.train()(m.y).commitment
        if "codebook" in self.config().provides():
            expect(
                bool((commitment >= 0).all()) and commitment.requires_grad,
                f"{self._name}: codebook is declared, but the commitment trains nothing",
            )
        else:
            expect(
                not bool(commitment.any()),
                f"{self._name}: codebook is not declared, but the commitment is not zero, so no loss will add it",
            )
