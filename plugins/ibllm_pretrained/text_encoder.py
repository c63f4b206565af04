"""E_x as a pretrained model. Shapes: b batch, t tokens, e width of the model, d latent width."""

from __future__ import annotations

import inspect
from typing import Any

import torch
from torch import Tensor, nn

from ibllm.plugin import Context, Latent, TextEncoder, adapt, dtype_of, load_local, masked_mean, recomputable, settings_of
from ibllm_pretrained.config import PretrainedTextEncoderConfig
from ibllm_pretrained.layers import common_width, into_common, keep_layers, tower
from ibllm_pretrained.tokenizer import PretrainedTokenizer

USER = "the text encoder pretrained"
#: Beginnings of the weights of a pair that its text tower does not have, and of heads that nobody asks for.
OTHERS = ("vision_model.", "visual_projection.", "logit_", "text_projection.", "head.", "text_model.head.", "pooler.", "lm_head.", "cls.")


class PretrainedTextEncoder(TextEncoder):
    """A layer of the model, projected and normalised, a place for every token, [CLS] and [SEP] included; `pooled` is their mean or the last of them.

    What is not trained is kept as buffers, not as parameters: it is saved with the rest and gets no gradient, whoever trains the part.
    """

    def __init__(self, config: PretrainedTextEncoderConfig, context: Context) -> None:
        super().__init__()
        tokenizer = expect_pretrained(config.tokenizer, context)
        self.width, self.frozen = config.width or context.width, config.mode == "frozen"
        self.common, self.last = config.space == "common", config.pooling == "last"
        self.backbone, self._notes = load(tokenizer, config)
        self._tower = (text_tower(self.backbone),)  # a part of the backbone, which has its weights
        self.pair = tokenizer.config.model if self.common and self.frozen else ""
        self.checkpointed = recomputable(self.backbone, "backbone")
        adapt(self.backbone, config)
        self.dtype = dtype_of(config)
        self.causal = is_causal(self.backbone)
        self.begins = tokenizer.vocabulary.begins
        self.register_buffer("model_ids", torch.tensor(tokenizer.vocabulary.model_ids), persistent=False)
        self.padded = self.backbone.config.model_type == "siglip_text_model"
        self.register_buffer("padding", torch.tensor(tokenizer.vocabulary.special[:1]), persistent=False)
        if self.common and self.width != (wide := common_width(self.backbone)):
            raise ValueError(f"width = {self.width}: expected {wide}, that of the pair's common space, as nothing of ours is between")
        self.project = nn.Identity() if self.common else nn.Linear(self.backbone.config.hidden_size, self.width)
        self.norm = nn.Identity() if self.common else nn.LayerNorm(self.width)

    @property
    def tower(self) -> Any:
        """What embeds and encodes in a pair's text tower; None of a model that takes embeddings."""
        return self._tower[0]

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
        if self.padded:
            return self._seen_whole(embeddings, mask)[0]
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
        if self.tower is not None:
            return tower_hidden(self.tower, embeddings.to(self.dtype), attended).float()
        last: Tensor = self.backbone(inputs_embeds=embeddings.to(self.dtype), attention_mask=attended, **given).last_hidden_state
        return last.float()

    def _seen_whole(self, embeddings: Tensor, mask: Tensor) -> tuple[Tensor, Tensor]:
        """SigLIP reads texts that are filled up to one length, sees the filling, and takes the last place for the whole: (b t e), (b e).

        It has no token for the beginning; our first place gets what the last one has.
        """
        assert isinstance(self.padding, Tensor)
        most, t = int(self.backbone.config.max_position_embeddings), embeddings.shape[1]
        filling = self.backbone.get_input_embeddings()(self.padding).float()
        x = torch.where(mask.unsqueeze(-1), embeddings, filling)[:, 1:]
        x = torch.cat([x, filling.expand(len(x), most - x.shape[1], -1)], 1)
        x = tower_hidden(self.tower, x.to(self.dtype), None).float()
        return torch.cat([x[:, -1:], x[:, : t - 1]], 1), x[:, -1]

    def encode(self, embeddings: Tensor, mask: Tensor) -> Latent:
        if self.padded and self.common:
            hidden, whole = self._seen_whole(embeddings, mask)
            return Latent(hidden * mask.unsqueeze(-1), mask, self.backbone.head(whole.to(self.dtype)).float())
        hidden = self.hidden(embeddings, mask)
        if self.common:
            hidden = into_common(self.backbone, hidden.to(self.dtype)).float()
        x = self.norm(self.project(hidden)) * mask.unsqueeze(-1)
        if not self.last and not self.common:
            return Latent(x, mask, masked_mean(x, mask))
        end = (mask.sum(1) - 1).clamp(min=0)
        return Latent(x, mask, x.gather(1, end[:, None, None].expand(-1, 1, x.shape[2])).squeeze(1))


def expect_pretrained(name: str, context: Context) -> PretrainedTokenizer:
    """The part's tokenizer, which says where its model is. Raises `ValueError` where it is of another sort."""
    if not isinstance(context.tokenizer, PretrainedTokenizer):
        raise ValueError(f'tokenizer = {name!r}: expected a tokenizer with use = "pretrained", which says where the model is')
    return context.tokenizer


def is_causal(model: Any) -> bool:
    """Whether a place of the model sees none after it."""
    return model.config.model_type == "clip_text_model" or any(getattr(module, "is_causal", False) for module in model.modules())


def load(tokenizer: PretrainedTokenizer, config: PretrainedTextEncoderConfig) -> tuple[Any, tuple[str, ...]]:
    """The tokenizer's model up to the layer that is asked for, and what a user should know of it.

    It has no weights of its own yet on the meta device, nor where a saved tokenizer's folder is gone: a saved model brings them.

    Raises `ValueError` where it cannot be used or lacks weights.
    """
    settings = settings_of(dict(tokenizer.vocabulary.model), USER)
    settings = getattr(settings, "text_config", settings)
    check(settings, tokenizer.max_length)
    settings.use_cache = False
    common = config.space == "common"
    if common and config.layer != -1:
        raise ValueError(f'layer = {config.layer}: expected -1 where space = "common", which is that of the last layer')
    cls = tower(settings, common)
    model, notes = load_local(
        cls, tokenizer.folder, settings, dtype=dtype_of(config), but=("pooler.",), others=OTHERS, weightless=tokenizer.restored
    )
    for name in ("pooler",) if common else ("pooler", "head"):
        if getattr(model, name, None) is not None:
            setattr(model, name, None)  # unused, so it would get no gradient
    keep_layers(model, config.layer)
    return model, notes


def text_tower(model: Any) -> Any:
    """What embeds and encodes in a model that takes ids alone, a pair's text tower; None of one that takes embeddings."""
    if "inputs_embeds" in inspect.signature(model.forward).parameters:
        return None
    return next(one for one in (getattr(model, "text_model", None), model) if hasattr(one, "final_layer_norm"))


def tower_hidden(model: Any, embeddings: Tensor, attended: Tensor | None) -> Tensor:
    """A text tower's last layer, normalised, from embeddings (b t e) and which places see which (b 1 t t): what it does with ids."""
    x = model.embeddings(inputs_embeds=embeddings)
    x = model.encoder(inputs_embeds=x, attention_mask=attended).last_hidden_state
    normalised: Tensor = model.final_layer_norm(x)
    return normalised


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
