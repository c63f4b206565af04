"""What each kind of component is. Torch-free."""

from __future__ import annotations

from collections.abc import Mapping

import attrs


@attrs.frozen
class Kind:
    """One kind of component.

    Attributes:
        name: as written in a spec, one of `ibllm_core.host.spec.KINDS`.
        interface: ``module:Class`` of the abstract part.
        summary: one line for tables.
        axes: the interface's inputs and outputs in einops notation.
        role: ``part`` (belongs to the model), ``shared`` (belongs to it, and parts use it), or where else a recipe may name it.
    """

    name: str
    interface: str
    summary: str
    axes: str = ""
    role: str = "part"


_ENCODED = "tokens (b n d), mask (b n), pooled (b d)"
_ALL = (
    Kind("text_encoder", "text:TextEncoder", "tokens → latent (E_x)", f"ids (b t), mask (b t) → {_ENCODED}"),
    Kind("image_decoder", "image:ImageDecoder", "latent (+ noise) → image (D_y)", "latent (b n d) → image (b c h w)"),
    Kind("image_encoder", "image:ImageEncoder", "image → latent (E_y)", f"image (b c h w) → {_ENCODED}"),
    Kind("text_decoder", "text:TextDecoder", "latent → tokens (D_x)", "latent (b n d) → ids (b t), mask (b t)"),
    Kind("discriminator", "image:Discriminator", "image + latent → score (C)", "image (b c h w), latent (b n d) → (b)"),
    Kind(
        "image_tokenizer",
        "image:ImageCodec",
        "codec: image ↔ discrete tokens, or continuous latents",
        "image (b c h w) ↔ ids (b m), or latents (b c' h' w')",
    ),
    Kind(
        "backbone",
        "ibllm.blocks.borrowing:Backbone",
        "weights that several parts use",
        "tokens (b n d), mask (b n) → tokens (b n d)",
        "shared",
    ),
    Kind("loss", "loss:Loss", "what a player minimises", "cycle → () or (sum, count)", "loss"),
    Kind("dataset", "dataset:Dataset", "where captions and images come from", "indices (b) → images (b h w c) uint8, captions b", "data"),
    Kind("tokenizer", "tokenizer:Tokenizer", "text ↔ token numbers", "texts b ↔ ids (b t)", "tokenizer"),
    Kind("metric", "reporting:Metric", "a figure on held-out data", "evaluation → {name: float}", "metric"),
    Kind("optimizer", "optimisation:Optimizer", "how parameters follow gradients", role="optimizer"),
    Kind("schedule", "optimisation:Schedule", "a factor over a stage's steps", "step, steps → float", "schedule"),
    Kind("procedure", "optimisation:Procedure", "how an iteration is played", role="procedure"),
    Kind(
        "perturbation", "perturbation:Perturbation", "what a stage's losses see in the place of its data", "cycle → batch", "perturbation"
    ),
    Kind("tracker", "reporting:Tracker", "where figures are written", role="tracker"),
)
KINDS: Mapping[str, Kind] = {
    kind.name: kind if kind.interface.startswith("ibllm.") else attrs.evolve(kind, interface=f"ibllm_core.interfaces.{kind.interface}")
    for kind in _ALL
}
