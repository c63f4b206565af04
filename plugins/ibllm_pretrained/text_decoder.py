"""D_x as a pretrained causal language model.

Shapes: b batch, t tokens of a text, n latent places, p places of what comes before the text, s all places, e width of the model, v our ids, u the model's.
"""

from __future__ import annotations

import inspect
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from ibllm.plugin import (
    BOS,
    EOS,
    Context,
    Latent,
    TextDecoder,
    Tokens,
    adapt,
    at_least_float32,
    causal_mask,
    dtype_of,
    library,
    load_local,
    recomputable,
    settings_of,
)
from ibllm_pretrained import projector
from ibllm_pretrained.config import PretrainedTextDecoderConfig
from ibllm_pretrained.prompts import NO_TEMPLATE, Prompts, prompts
from ibllm_pretrained.text_encoder import check_places, expect_pretrained, is_causal
from ibllm_pretrained.tokenizer import Vocabulary

USER = "the text decoder pretrained"
#: The logit of an id that stands for the same as another one, which has their probability: e to its power is 0, and times 0 it is still a number.
NEVER = -3e4
#: Embeddings (b s e) and which of them are there (b s).
Read = tuple[Tensor, Tensor]


class PretrainedTextDecoder(TextDecoder):
    """Reads the image's places, projected, as if they were words, and goes on from there.

    The sequence is: what a text or a conversation begins with, the image, what is asked, the text. Our token of the beginning stands for the last place
    before the text, so nothing comes between. What is not trained of the model is kept as buffers, not as parameters.
    """

    trained_pass = "read"

    def __init__(self, config: PretrainedTextDecoderConfig, context: Context) -> None:
        super().__init__()
        tokenizer = expect_pretrained(config.tokenizer, context)
        known = tokenizer.vocabulary
        self.vocabulary, self.max_length, self.frozen = tokenizer.size, tokenizer.max_length, config.mode == "frozen"
        self.settings, self.dtype = settings_of(dict(known.model), USER), dtype_of(config)
        self._check(self.settings)
        self.model, self._notes = load_local(self._auto(), tokenizer.folder, self.settings, dtype=self.dtype, weightless=tokenizer.restored)
        self._check_model(self.model)
        self.checkpointed = recomputable(self.model, "model")
        adapt(self.model, config)
        self.prompts = self._prompts(config, known)
        self.projector = projector.build(config, config.latent or context.latent, self.model.get_input_embeddings().embedding_dim)
        for name, ids in self.prompts.pieces().items():
            self.register_buffer(f"said_{name}", torch.tensor(ids, dtype=torch.long), persistent=False)
        repeated = torch.zeros(self.vocabulary)
        repeated[list(known.repeated)] = 1.0
        self.register_buffer("model_ids", torch.tensor(known.model_ids), persistent=False)
        self.register_buffer("repeated", repeated > 0, persistent=False)
        if max(known.model_ids) >= (rows := self.model.get_input_embeddings().num_embeddings):
            raise ValueError(
                f"tokenizer = {config.tokenizer!r}: it has the id {max(known.model_ids)}; expected ids below {rows}, the model's"
            )

    def _auto(self) -> Any:
        return library("transformers", USER).AutoModelForCausalLM

    def _prompts(self, config: PretrainedTextDecoderConfig, known: Vocabulary) -> Prompts:
        return prompts(config, known)

    def _check(self, settings: Any) -> None:
        """Raises `ValueError` where the configuration is none of a causal language model."""
        from transformers.models.auto import modeling_auto

        if settings.model_type not in modeling_auto.MODEL_FOR_CAUSAL_LM_MAPPING_NAMES:
            raise ValueError(f"model_type = {settings.model_type!r}: expected a causal language model (Llama, Qwen, GPT-2, …) or T5")

    def _check_model(self, model: Any) -> None:
        """Raises `ValueError` where the model is an encoder, or its places cannot be numbered row by row."""
        if not is_causal(model):
            raise ValueError(
                f"model_type = {model.config.model_type!r}: expected a decoder, whose places see none that come later; it is an encoder"
            )
        if "position_ids" not in inspect.signature(model.forward).parameters:
            raise ValueError(f"model_type = {model.config.model_type!r}: expected a model that is told its places' numbers (position_ids)")

    def notes(self) -> tuple[str, ...]:
        """What a user should know of the model."""
        return self._notes

    def train(self, mode: bool = True) -> PretrainedTextDecoder:
        """A frozen model's dropout stays off."""
        super().train(mode)
        if self.frozen:
            self.model.eval()
        return self

    # What comes before the text.

    def embed(self, model_ids: Tensor) -> Tensor:
        embedded: Tensor = self.model.get_input_embeddings()(model_ids)
        return embedded.float()

    def condition(self, z: Latent, prefix: Tokens | None) -> Read:
        """The image and what is asked of it, as the model reads them: embeddings (b p e), mask (b p). Raises `ValueError` as `nll` does."""
        image, name = self.projector(z), "caption" if prefix is None else "question"
        if prefix is not None and self.prompts.question is None:
            raise ValueError(f'prompts = "chat": {NO_TEMPLATE}')
        pieces = [self._said(f"{name}_before", image[1]), image, self._said(f"{name}_between", image[1])]
        if prefix is not None:
            pieces += self._asked(prefix, image[1])
        pieces.append(self._said(f"{name}_after", image[1]))
        given, mask = (torch.cat(parts, 1) for parts in zip(*pieces, strict=True))
        p, most = given.shape[1], self.max_length
        way = 'projector = "perceiver" makes fewer of an image'
        check_places(self.settings, p + most, f"{p} places of image and prompt, and texts of max_length = {most} ({way})")
        return given, mask

    def _said(self, name: str, like: Tensor) -> Read:
        """A piece of a prompt, the same for all rows."""
        x = self.embed(self.get_buffer(f"said_{name}")).expand(len(like), -1, -1)
        return x, like.new_ones(x.shape[:2])

    def _asked(self, prefix: Tokens, like: Tensor) -> list[Read]:
        """The question of each row, or in its place, where a question is to be written, what asks for one."""
        ids = prefix.ids[:, 1:]
        there = prefix.mask[:, 1:] & (ids != EOS)
        assert isinstance(self.model_ids, Tensor)
        question = self.embed(self.model_ids[ids])
        if not self.prompts.asking:
            return [(question, there)]
        asks = (ids[:, :1] == BOS) & there[:, :1]
        asking, mask = self._said("asking", like)
        return [(question, there & ~asks), (asking, mask & asks)]

    # The likelihood.

    def nll(self, tokens: Tokens, z: Latent, prefix: Tokens | None = None) -> Tensor:
        """As the interface says; the loss of the library on the same embeddings.

        Raises:
            ValueError: image, prompt and text have more places than the model, or a question comes without a chat template.
        """
        logits = self.read(*self.condition(z, prefix), tokens.ids[:, :-1], tokens.mask[:, :-1])
        assert isinstance(self.model_ids, Tensor)
        losses = F.cross_entropy(at_least_float32(logits.transpose(1, 2)), self.model_ids[tokens.ids[:, 1:]], reduction="none")
        return (losses * tokens.mask[:, 1:]).sum(1)

    def logits(self, ids: Tensor, mask: Tensor, z: Latent) -> Tensor:
        return self._ours(self.read(*self.condition(z, None), ids, mask))

    def _ours(self, logits: Tensor) -> Tensor:
        """The model's logits (… u) → ours (… v)."""
        assert isinstance(self.model_ids, Tensor) and isinstance(self.repeated, Tensor)
        return at_least_float32(logits)[..., self.model_ids].masked_fill(self.repeated, NEVER)

    def read(self, given: Tensor, there: Tensor, ids: Tensor, mask: Tensor) -> Tensor:
        """What comes before (b p e), its mask (b p), a text's ids (b t) and mask (b t) → the model's logits (b t u)."""
        assert isinstance(self.model_ids, Tensor)
        first, before = _last(given, there)
        x = torch.cat([given, first.unsqueeze(1), self.embed(self.model_ids[ids[:, 1:]])], 1)
        seen, t = torch.cat([before, mask], 1), ids.shape[1]
        out = self.model(
            inputs_embeds=x.to(self.dtype),
            attention_mask=causal_mask(seen).unsqueeze(1),
            position_ids=_places(seen),
            use_cache=False,
            logits_to_keep=t,
        )
        logits: Tensor = out.logits[:, -t:]
        return logits

    # Writing.

    def begin(self, z: Latent) -> Any:
        return self._start(*self.condition(z, None))

    def opened(self, z: Latent, prefix: Tokens | None) -> tuple[Tensor, Any]:
        return self.step(torch.full((len(z),), BOS, device=z.tokens.device), self._start(*self.condition(z, prefix)))

    def _start(self, given: Tensor, there: Tensor) -> Any:
        """Keys and values of every layer, which places are to be seen (b s), the next place's number (b) and column (b), and its embedding (b e)."""
        from ibllm_pretrained.cache import growing, with_room

        first, before = _last(given, there)
        cache = growing()
        self.model.base_model(
            inputs_embeds=given.to(self.dtype),
            attention_mask=causal_mask(before).unsqueeze(1),
            position_ids=_places(before),
            past_key_values=cache,
            use_cache=True,
        )
        number = before.sum(1)
        column = torch.full_like(number, given.shape[1])
        return *with_room(cache, self.max_length), F.pad(before, (0, self.max_length)), number, column, first

    def step(self, ids: Tensor, state: Any) -> tuple[Tensor, Any]:
        from ibllm_pretrained.cache import by_rows

        keys, values, seen, number, column, first = state
        assert isinstance(self.model_ids, Tensor)
        begins = column == seen.shape[1] - self.max_length
        x = torch.where(begins.unsqueeze(1), first, self.embed(self.model_ids[ids]))
        seen.scatter_(1, column.unsqueeze(1), True)
        out = self.model(
            inputs_embeds=x.unsqueeze(1).to(self.dtype),
            attention_mask=seen[:, None, None],
            position_ids=number.unsqueeze(1),
            past_key_values=by_rows(keys, values, column),
            use_cache=True,
        )
        return self._ours(out.logits[:, -1]), (keys, values, seen, number + 1, column + 1, first)


def _last(given: Tensor, there: Tensor) -> tuple[Tensor, Tensor]:
    """The last place that is there of each row (b e), and which are there before it (b p)."""
    places = torch.arange(there.shape[1], device=there.device)
    last = torch.where(there, places, 0).amax(1, keepdim=True)
    first = given.gather(1, last.unsqueeze(-1).expand(-1, 1, given.shape[2])).squeeze(1)
    return first, there & (places != last)


def _places(seen: Tensor) -> Tensor:
    """(b s) the number of each place among those that are there."""
    return (seen.cumsum(1) - 1).clamp(min=0)


def text_decoder(config: PretrainedTextDecoderConfig, context: Context) -> TextDecoder:
    """The decoder for the tokenizer's model: a causal one, or the decoder of a pair."""
    tokenizer = expect_pretrained(config.tokenizer, context)
    if dict(tokenizer.vocabulary.model).get("is_encoder_decoder"):
        from ibllm_pretrained.encoder_decoder import PretrainedPair

        return PretrainedPair(config, context)
    return PretrainedTextDecoder(config, context)
