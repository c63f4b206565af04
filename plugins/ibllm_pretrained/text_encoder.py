"""E_x as a pretrained model. Shapes: b batch, t tokens, e width of the model, d latent width."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from ibllm.plugin import Context, Latent, TextEncoder, adapt, dtype_of, library, load_local, masked_mean, recomputable, settings_of
from ibllm_pretrained.config import PretrainedTextEncoderConfig
from ibllm_pretrained.tokenizer import PretrainedTokenizer

USER = "the text encoder pretrained"


class PretrainedTextEncoder(TextEncoder):
    """A layer of the model, projected and normalised, a place for every token, [CLS] and [SEP] included; `pooled` is their mean or the last of them.

    What is not trained is kept as buffers, not as parameters: it is saved with the rest and gets no gradient, whoever trains the part.
    """

    def __init__(self, config: PretrainedTextEncoderConfig, context: Context) -> None:
        super().__init__()
        tokenizer = expect_pretrained(config.tokenizer, context)
        self.width, self.frozen, self.last = config.width or context.width, config.mode == "frozen", config.pooling == "last"
        self.backbone, self._notes = load(tokenizer, config)
        self.checkpointed = recomputable(self.backbone, "backbone")
        adapt(self.backbone, config)
        self.dtype = dtype_of(config)
        self.causal = is_causal(self.backbone)
        self.begins = tokenizer.vocabulary.begins
        self.register_buffer("model_ids", torch.tensor(tokenizer.vocabulary.model_ids), persistent=False)
        self.project = nn.Linear(self.backbone.config.hidden_size, self.width)
        self.norm = nn.LayerNorm(self.width)

    def notes(self) -> tuple[str, ...]:
        """What a user should know of the model."""
        return self._notes

    def train(self, mode: bool = True) -> PretrainedTextEncoder:
        """A frozen model's dropout stays off."""
        super().train(mode)
        if self.frozen:
            self.backbone.eval()
        return self

    def embed(self, ids: Tensor) -> Tensor:
        assert isinstance(self.model_ids, Tensor)
        embedded: Tensor = self.backbone.get_input_embeddings()(self.model_ids[ids])
        return embedded.float()

    def hidden(self, embeddings: Tensor, mask: Tensor) -> Tensor:
        """embeddings (b t e), mask (b t) → what the model's layer gives (b t e).

        Where a model has no token for a text's beginning, the first place is there for our numbering's sake, and the others do not see it.
        """
        # An attention mask (b 1 t t): from a padding mask transformers would read values, which the meta device does not have.
        t = mask.shape[1]
        attended = mask[:, None, None, :].expand(-1, 1, t, t)
        given: dict[str, Any] = {}
        if self.causal:
            attended = attended & torch.ones(t, t, dtype=torch.bool, device=mask.device).tril()
        if not self.begins:
            first = torch.arange(t, device=mask.device) == 0
            attended = (attended & ~first) | (first[:, None] & first)
            given["position_ids"] = (torch.arange(t, device=mask.device) - 1).clamp(min=0).expand(len(mask), t)
        last: Tensor = self.backbone(inputs_embeds=embeddings.to(self.dtype), attention_mask=attended, **given).last_hidden_state
        return last.float()

    def encode(self, embeddings: Tensor, mask: Tensor) -> Latent:
        x = self.norm(self.project(self.hidden(embeddings, mask))) * mask.unsqueeze(-1)
        if not self.last:
            return Latent(x, mask, masked_mean(x, mask))
        end = (mask.sum(1) - 1).clamp(min=0)
        return Latent(x, mask, x.gather(1, end[:, None, None].expand(-1, 1, x.shape[2])).squeeze(1))


def expect_pretrained(name: str, context: Context) -> PretrainedTokenizer:
    """The part's tokenizer, which says where its model is. Raises `ValueError` where it is of another sort."""
    if not isinstance(context.tokenizer, PretrainedTokenizer):
        raise ValueError(f'tokenizer = {name!r}: expected a tokenizer with use = "pretrained", which says where the model is')
    return context.tokenizer


def is_causal(model: nn.Module) -> bool:
    """Whether a place of the model sees none after it."""
    return any(getattr(module, "is_causal", False) for module in model.modules())


def load(tokenizer: PretrainedTokenizer, config: PretrainedTextEncoderConfig) -> tuple[Any, tuple[str, ...]]:
    """The tokenizer's model up to the layer that is asked for, and what a user should know of it.

    It has no weights of its own yet on the meta device, nor where a saved tokenizer's folder is gone: a saved model brings them.

    Raises `ValueError` where it cannot be used or lacks weights.
    """
    auto = library("transformers", USER).AutoModel
    settings = settings_of(dict(tokenizer.vocabulary.model), USER)
    check(settings, tokenizer.max_length)
    settings.use_cache = False
    model, notes = load_local(auto, tokenizer.folder, settings, dtype=dtype_of(config), but=("pooler.",))
    if getattr(model, "pooler", None) is not None:
        model.pooler = None  # unused, so it would get no gradient
    keep_layers(model, config.layer)
    return model, notes


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
        for holder in {model, owner}:
            if isinstance(getattr(holder, norm, None), nn.Module):
                setattr(holder, norm, nn.Identity())


def check(settings: Any, max_length: int) -> None:
    """Raises `ValueError` where a model is no text encoder that sees whole texts of `max_length` tokens."""
    if getattr(settings, "is_encoder_decoder", False):
        raise ValueError(f"model_type = {settings.model_type!r}: expected an encoder or a decoder alone, not both")
    check_places(settings, max_length, f"max_length = {max_length}", 0)


def check_places(settings: Any, places: int, what: str, window: int | None = None) -> None:
    """Raises `ValueError` where not every layer of a model sees so many places at once; `what` says whose they are.

    Args:
        window: how far layers with a window see; what the configuration says when left out.
    """
    windows = any(kind.startswith(("sliding", "chunked")) for kind in getattr(settings, "layer_types", None) or ())
    wide = getattr(settings, "sliding_window", None) if window is None else window
    if windows and (wide is None or places > wide):
        raise ValueError(f"model_type = {settings.model_type!r}: expected a model whose layers all see the whole text")
    longest = getattr(settings, "max_position_embeddings", None) or places
    if places > longest:
        raise ValueError(f"{what}: expected at most the model's {longest}")
