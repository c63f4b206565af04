"""A pretrained language model as the backbone: its layers read and write images, too.

Shapes: b batch, t places of a row, d width, s places of a cache, v our ids, u the model's.
"""

from __future__ import annotations

import inspect
from collections.abc import Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from ibllm.plugin import Context, KeyValueCache, Tokens, adapt, at_least_float32, dtype_of, library, load_local, recomputable, settings_of
from ibllm_unified.backbone import SequenceBackbone
from ibllm_unified.config import PretrainedBackboneConfig
from ibllm_unified.sequence import Row, visible

USER = "the backbone unified_pretrained"
#: The logit of an id that stands for the same as another one, which has their probability: e to its power is 0, and times 0 it is still a number.
NEVER = -3e4


class PretrainedBackbone(SequenceBackbone):
    """A causal language model of `transformers`: its layers, its table of words and its head.

    Image tokens and task tokens are rows of tables beside its own, so what it knows of words stays where it is. It numbers places one after the other, as
    it has learned to; where a place lies in an image is told by the vectors that the parts add. Both orders go through it in one pass, filled up to the
    longest row.
    """

    def __init__(self, config: PretrainedBackboneConfig, context: Context) -> None:
        known: Any = getattr(context.tokenizer, "vocabulary", None)
        if context.tokenizer is None or getattr(known, "model_ids", None) is None:
            raise ValueError(
                f"tokenizer = {config.tokenizer!r}: expected a [tokenizers] table of use pretrained, whose model the backbone is"
            )
        settings, dtype = settings_of(dict(known.model), USER), dtype_of(config)
        folder = context.tokenizer.folder  # type: ignore[attr-defined]
        model, notes = load_local(library("transformers", USER).AutoModelForCausalLM, folder, settings, dtype=dtype)
        if "position_ids" not in inspect.signature(model.forward).parameters:
            raise ValueError(f"model_type = {settings.model_type!r}: expected a causal language model that is told its places' numbers")
        width = model.get_input_embeddings().embedding_dim
        if width != context.width:
            raise ValueError(f"model.width = {context.width}: expected {width}, that of the pretrained model")
        super().__init__(width, context.tokenizer.size)
        self.speak(context.tokenizer)
        self.config, self.settings, self.dtype, self._notes, self.folder = config, settings, dtype, notes, folder
        self.model = model
        self.checkpointed = recomputable(self.model, "model")
        adapt(self.model, config)
        repeated = torch.zeros(self.vocabulary, dtype=torch.bool)
        repeated[list(known.repeated)] = True
        self.register_buffer("model_ids", torch.tensor(known.model_ids), persistent=False)
        self.register_buffer("repeated", repeated, persistent=False)

    model_ids: Tensor
    repeated: Tensor

    def notes(self) -> tuple[str, ...]:
        """What a user should know of the model."""
        return self._notes

    def train(self, mode: bool = True) -> PretrainedBackbone:
        """A frozen model's dropout stays off."""
        super().train(mode)
        if self.config.mode == "frozen":
            self.model.eval()
        return self

    def embed(self, ids: Tensor) -> Tensor:
        embedded: Tensor = self.model.get_input_embeddings()(self.model_ids[ids])
        return embedded.float()

    def words(self, hidden: Tensor) -> Tensor:
        logits = self.model.get_output_embeddings()(hidden.to(self.dtype))
        return at_least_float32(logits)[..., self.model_ids].masked_fill(self.repeated, NEVER)

    def forward(self, rows: Sequence[Row]) -> list[Tensor]:
        """Rows of all orders as one batch."""
        longest = max(row.x.shape[1] for row in rows)
        x = torch.cat([F.pad(row.x, (0, 0, 0, longest - row.x.shape[1])) for row in rows])
        whole = [torch.zeros_like(row.mask) if row.whole is None else row.whole for row in rows]
        mask = visible(torch.cat([F.pad(one, (0, longest - one.shape[1])) for one in whole]))
        places = torch.arange(longest, device=x.device).expand(len(x), -1)
        return [hidden[:, : row.x.shape[1]] for hidden, row in zip(self._pass(x, mask, places).chunk(len(rows)), rows, strict=True)]

    def _pass(self, x: Tensor, mask: Tensor, places: Tensor, **more: Any) -> Tensor:
        """x (b t d), mask (b t s), the number of each place (b t) → hidden states (b t d). Raises `ValueError` for more places than the model has."""
        most = int(getattr(self.settings, "max_position_embeddings", 0) or mask.shape[2])
        if mask.shape[2] > most:
            raise ValueError(
                f"{mask.shape[2]} places of text and image: expected at most {most}, which model_type = {self.settings.model_type!r} has here"
            )
        inner = self.model.base_model
        out = inner(inputs_embeds=x.to(self.dtype), attention_mask=mask.unsqueeze(1), position_ids=places, use_cache=bool(more), **more)
        hidden: Tensor = out.last_hidden_state
        return hidden.float()

    def cache(self, like: Row, places: int) -> KeyValueCache:
        settings = self.settings
        heads = getattr(settings, "num_key_value_heads", None) or settings.num_attention_heads
        width = getattr(settings, "head_dim", None) or settings.hidden_size // settings.num_attention_heads
        return KeyValueCache.empty(like.x.new_zeros(len(like.x), heads, 1, width, dtype=self.dtype), settings.num_hidden_layers, places)

    def advance(self, x: Tensor, coordinates: Tensor, cache: KeyValueCache, start: Tensor, mask: Tensor) -> Tensor:
        from ibllm_unified.pretrained_cache import kept

        places = start[:, None] + torch.arange(x.shape[1], device=x.device)
        return self._pass(x, mask, places, past_key_values=kept(cache, start))

    @torch.no_grad()
    def before(self, tokens: Tokens) -> Tensor:
        """(b) −log p(text) in nats as the model in its folder says, by the library's own forward pass. Raises `ValueError` where the folder is gone."""
        if self.folder is None:
            raise ValueError("the folder of the pretrained model is gone: expected it where its tokenizer's table says, to compare with")
        auto = library("transformers", USER).AutoModelForCausalLM
        model = load_local(auto, self.folder, self.settings, dtype=self.dtype)[0].to(tokens.ids.device).eval()
        ids = self.model_ids[tokens.ids]
        logits = at_least_float32(model(input_ids=ids[:, :-1], attention_mask=tokens.mask[:, :-1].long(), use_cache=False).logits)
        losses = F.cross_entropy(logits.transpose(1, 2), ids[:, 1:], reduction="none")
        return (losses * tokens.mask[:, 1:]).sum(1)
