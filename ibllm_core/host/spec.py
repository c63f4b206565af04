"""What a plugin hands over: component specifications; and the kinds of component there are. Torch-free."""

from __future__ import annotations

import attrs

#: The version of the plugin interface this core speaks. A spec that asks for a newer one is refused by name.
API = 1
#: The oldest version that is still accepted; a spec older than `API` gets a warning (`ibllm_core.host.hookspecs.PluginDeprecationWarning`).
OLDEST = 1


#: The kinds of component there are; `ibllm.plugin.KINDS` says what each is.
KINDS = (
    "text_encoder", "image_decoder", "image_encoder", "text_decoder", "discriminator", "image_tokenizer", "backbone", "loss", "dataset",
    "tokenizer", "metric", "optimizer", "schedule", "procedure", "perturbation", "tracker",
)  # fmt: skip


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
