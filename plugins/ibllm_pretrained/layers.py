"""The blocks of a model of `transformers`, and the towers of a pair like CLIP."""

from __future__ import annotations

from typing import Any

from torch import Tensor, nn

from ibllm.plugin import library, recomputable

#: What the models of `transformers` call the layer that normalises what their last block gives.
FINAL_NORMS = ("norm", "ln_f", "final_layer_norm", "final_layernorm", "layernorm", "post_layernorm")


def keep_layers(model: Any, layer: int) -> None:
    """Leaves out the blocks of a model after number `layer`, and then what normalises the last: what remains is that block's output.

    Raises `ValueError` where it has no such layer.
    """
    if layer == -1:
        return
    lists, count = recomputable(model, ""), int(model.config.num_hidden_layers)
    if not -count - 1 <= layer <= count or len(lists) != 1:
        raise ValueError(f"layer = {layer}: expected a layer of the model, from {-count - 1} to {count}")
    kept = layer if layer >= 0 else count + 1 + layer
    if kept == count:
        return
    name = lists[0].removeprefix(".")
    del model.get_submodule(name)[kept:]
    owner = model.get_submodule(name.rpartition(".")[0])
    owner.config.num_hidden_layers = kept
    for norm in FINAL_NORMS:
        for holder in (model, owner):
            if isinstance(getattr(holder, norm, None), nn.Module):
                setattr(holder, norm, nn.Identity())


def tower(settings: Any, common: bool) -> Any:
    """The class of the model that a configuration describes: of a pair's tower with what leads into their common space, if that is asked for.

    Raises `ValueError` where the model has no such space.
    """
    transformers = library("transformers", "a pretrained model")
    if not common:
        return transformers.SiglipTextModel if settings.model_type == "siglip_text_model" else transformers.AutoModel
    names = {
        "clip_text_model": "CLIPTextModelWithProjection",
        "clip_vision_model": "CLIPVisionModelWithProjection",
        "siglip_text_model": "SiglipTextModel",
        "siglip_vision_model": "SiglipVisionModel",
    }
    if settings.model_type not in names:
        raise ValueError(f'space = "common": expected one of a pair like CLIP or SigLIP, not model_type = {settings.model_type!r}')
    return getattr(transformers, names[settings.model_type])


def into_common(model: nn.Module, x: Tensor) -> Tensor:
    """The places of a tower's last layer (b n e) → the common space (b n d), as the pair takes its pooled one there."""
    for name in ("visual_projection", "text_projection"):
        if (projection := getattr(model, name, None)) is not None:
            projected: Tensor = projection(x)
            return projected
    return x


def common_width(model: Any) -> int:
    """d of the common space of a tower of `tower`."""
    for name in ("visual_projection", "text_projection"):
        if (projection := getattr(model, name, None)) is not None:
            return int(projection.out_features)
    return int(getattr(model.config, "projection_size", model.config.hidden_size))
