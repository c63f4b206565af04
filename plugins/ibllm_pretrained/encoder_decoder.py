"""D_x as a pretrained encoder and decoder (T5): the encoder reads the image and what is asked, the decoder writes.

Shapes: b batch, t tokens of a text, p places of what comes before the text, e width of the model, u the model's ids.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from ibllm.plugin import PAD, causal_mask, library
from ibllm_pretrained.config import PretrainedTextDecoderConfig
from ibllm_pretrained.prompts import Prompt, Prompts
from ibllm_pretrained.text_decoder import USER, PretrainedTextDecoder, Read
from ibllm_pretrained.tokenizer import Vocabulary


class PretrainedPair(PretrainedTextDecoder):
    """Our token of the beginning is what the decoder starts with; the encoder's text ends with the model's end.

    Such models number places by their distance alone, the same for all rows, and so does their cache: a step here reads the text so far anew.
    """

    def _auto(self) -> Any:
        return library("transformers", USER).AutoModelForSeq2SeqLM

    def _check(self, settings: Any) -> None:
        from transformers.models.auto import modeling_auto

        known = settings.model_type in modeling_auto.MODEL_FOR_SEQ_TO_SEQ_CAUSAL_LM_MAPPING_NAMES
        if not known or getattr(settings, "decoder_start_token_id", None) is None:
            raise ValueError(f"model_type = {settings.model_type!r}: expected a causal language model (Llama, Qwen, GPT-2, …) or T5")
        if getattr(settings, "max_position_embeddings", None):
            raise ValueError(f"model_type = {settings.model_type!r}: expected an encoder and a decoder with relative positions (T5)")

    def _check_model(self, model: Any) -> None:
        """An encoder is part of it."""

    def _prompts(self, config: PretrainedTextDecoderConfig, known: Vocabulary) -> Prompts:
        """Such models have no conversations: what is asked is said as it is."""
        end = [known.special[2]]
        words = known.marked_up(config.caption_prompt) if config.caption_prompt else []
        return Prompts(Prompt((), words, end), Prompt((), (), end), known.marked_up(config.asking_prompt))

    def read(self, given: Tensor, there: Tensor, ids: Tensor, mask: Tensor) -> Tensor:
        encoded, seen = self._encoded(given, there)
        return self._decoded(encoded, seen, ids, mask)

    def _encoded(self, given: Tensor, there: Tensor) -> Read:
        """What the encoder makes of what it is given (b p e), and its mask; empty places come last, since distances count them."""
        p = there.shape[1]
        places = torch.arange(p, device=there.device)
        order = torch.where(there, places, places + p).argsort(dim=1)
        given, there = given.gather(1, order.unsqueeze(-1).expand_as(given)), there.gather(1, order)
        # Masks of four axes: from others transformers would read values, which waits for a device.
        attended = there[:, None, None, :] | torch.eye(p, dtype=torch.bool, device=there.device)
        encoded: Tensor = self.model.get_encoder()(inputs_embeds=given.to(self.dtype), attention_mask=attended).last_hidden_state
        return encoded, there

    def _decoded(self, encoded: Tensor, seen: Tensor, ids: Tensor, mask: Tensor) -> Tensor:
        from transformers.modeling_outputs import BaseModelOutput

        assert isinstance(self.model_ids, Tensor)
        t = ids.shape[1]
        read = self.model_ids[ids]
        read = torch.where(torch.arange(t, device=ids.device) == 0, self.settings.decoder_start_token_id, read)
        out = self.model(
            encoder_outputs=BaseModelOutput(last_hidden_state=encoded),
            attention_mask=seen[:, None, None, :].expand(-1, 1, t, -1),
            decoder_input_ids=read,
            decoder_attention_mask=causal_mask(mask).unsqueeze(1),
            use_cache=False,
        )
        logits: Tensor = out.logits
        return logits

    def _start(self, given: Tensor, there: Tensor) -> Any:
        encoded, seen = self._encoded(given, there)
        written = torch.full((len(given), self.max_length), PAD, dtype=torch.long, device=given.device)
        return encoded, seen, written, torch.zeros(len(given), dtype=torch.long, device=given.device)

    def step(self, ids: Tensor, state: Any) -> tuple[Tensor, Any]:
        encoded, seen, written, column = state
        written.scatter_(1, column.unsqueeze(1), ids.unsqueeze(1))
        logits = self._decoded(encoded, seen, written, torch.ones_like(written, dtype=torch.bool))
        now = logits.gather(1, column[:, None, None].expand(-1, 1, logits.shape[2])).squeeze(1)
        return self._ours(now), (encoded, seen, written, column + 1)
