"""What a plugin hands over: component specifications; and the kinds of component there are. Torch-free."""

from __future__ import annotations

from collections.abc import Mapping

import attrs

#: The version of the plugin interface this core speaks. A spec that asks for a newer one is refused by name.
API = 1
#: The oldest version that is still accepted; a spec older than `API` gets a warning (`ibllm_core.host.deprecations`).
OLDEST = 1


@attrs.frozen
class Kind:
    """One kind of component.

    Attributes:
        name: as written in a spec.
        interface: ``module:Class`` of the abstract part.
        summary: one line for tables.
        axes: the interface's inputs and outputs in einops notation.
        role: ``part`` (belongs to the model), or where else a recipe may name it.
    """

    name: str
    interface: str
    summary: str
    axes: str = ""
    role: str = "part"


_I = "ibllm_core.interfaces."

KINDS: Mapping[str, Kind] = {
    kind.name: kind
    for kind in (
        Kind(
            "text_encoder",
            _I + "text:TextEncoder",
            "tokens → latent (E_x)",
            "ids (b t), mask (b t) → tokens (b n d), mask (b n), pooled (b d)",
        ),
        Kind("image_decoder", _I + "image:ImageDecoder", "latent (+ noise) → image (D_y)", "latent (b n d) → image (b c h w)"),
        Kind(
            "image_encoder", _I + "image:ImageEncoder", "image → latent (E_y)", "image (b c h w) → tokens (b n d), mask (b n), pooled (b d)"
        ),
        Kind("text_decoder", _I + "text:TextDecoder", "latent → tokens (D_x)", "latent (b n d) → ids (b t), mask (b t)"),
        Kind("discriminator", _I + "discriminator:Discriminator", "image + latent → score (C)", "image (b c h w), latent (b n d) → (b)"),
        Kind("image_tokenizer", _I + "image_tokenizer:ImageTokenizer", "image ↔ discrete tokens", "image (b c h w) ↔ ids (b n)"),
        Kind("loss", _I + "loss:Loss", "what a player minimises", "cycle → () or (sum, count)", "loss"),
        Kind(
            "dataset",
            _I + "dataset:Dataset",
            "where captions and images come from",
            "indices (b) → images (b h w c) uint8, captions b",
            "data",
        ),
        Kind("tokenizer", _I + "tokenizer:Tokenizer", "text ↔ token numbers", "texts b ↔ ids (b t)", "tokenizer"),
        Kind("metric", _I + "metric:Metric", "a figure on held-out data", "evaluation → {name: float}", "metric"),
        Kind("optimizer", _I + "optimisation:Optimizer", "how parameters follow gradients", "", "optimizer"),
        Kind("schedule", _I + "optimisation:Schedule", "a factor over a stage's steps", "step, steps → float", "schedule"),
        Kind("procedure", _I + "procedure:Procedure", "how an iteration is played", "", "procedure"),
        Kind("tracker", _I + "tracker:Tracker", "where figures are written", "", "tracker"),
    )
}


@attrs.frozen
class ComponentSpec:
    """One component that a plugin offers; every field is plain data until the component is used.

    Attributes:
        kind: one of `KINDS`.
        name: as written after ``use =`` in a recipe.
        factory: ``module:callable``; called as ``factory(config, context)`` (see `ibllm_core.interfaces.context`).
        config: ``module:Class``, an attrs class deriving from `ibllm_core.host.options.Config`.
        summary: one line for ``ibllm plugins``.
        api: the plugin interface it was written for.
    """

    kind: str
    name: str
    factory: str
    config: str
    summary: str
    api: int = 1
