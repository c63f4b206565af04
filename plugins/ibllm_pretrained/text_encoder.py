"""E_x as a pretrained model. Shapes: b batch, t tokens, e width of the model, d latent width.

`transformers` takes seconds to import, so it is imported when such a part is built.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from ibllm.plugin import Context, Latent, TextEncoder, masked_mean
from ibllm_pretrained.config import PretrainedTextEncoderConfig
from ibllm_pretrained.tokenizer import PretrainedTokenizer


class PretrainedTextEncoder(TextEncoder):
    """The model's last layer, projected and normalised, a place for every token, [CLS] and [SEP] included; `pooled` is their mean.

    What is not trained is kept as buffers, not as parameters: it is saved with the rest and gets no gradient, whoever trains the part.
    """

    def __init__(self, config: PretrainedTextEncoderConfig, context: Context) -> None:
        super().__init__()
        tokenizer = context.tokenizer
        if not isinstance(tokenizer, PretrainedTokenizer):
            raise ValueError(
                f'tokenizer = {config.tokenizer!r}: expected a tokenizer with use = "pretrained", which says where the model is'
            )
        self.width, self.frozen = config.width or context.width, config.mode == "frozen"
        self.backbone = load(tokenizer)
        if config.mode == "lora":
            add_adapters(self.backbone, config)
        if self.frozen:
            self.backbone.requires_grad_(False)
        if config.mode != "tuned":
            keep_as_buffers(self.backbone)
        self.causal = any(getattr(module, "is_causal", False) for module in self.backbone.modules())
        self.register_buffer("model_ids", torch.tensor(tokenizer.vocabulary.model_ids), persistent=False)
        self.project = nn.Linear(self.backbone.config.hidden_size, self.width)
        self.norm = nn.LayerNorm(self.width)

    def train(self, mode: bool = True) -> PretrainedTextEncoder:
        """A frozen model's dropout stays off."""
        super().train(mode)
        if self.frozen:
            self.backbone.eval()
        return self

    def embed(self, ids: Tensor) -> Tensor:
        assert isinstance(self.model_ids, Tensor)
        embedded: Tensor = self.backbone.get_input_embeddings()(self.model_ids[ids])
        return embedded

    def hidden(self, embeddings: Tensor, mask: Tensor) -> Tensor:
        """embeddings (b t e), mask (b t) → the model's own last layer (b t e)."""
        # An attention mask (b 1 t t): from a padding mask transformers would read values, which the meta device does not have.
        t = mask.shape[1]
        attended = mask[:, None, None, :].expand(-1, 1, t, t)
        if self.causal:
            attended = attended & torch.ones(t, t, dtype=torch.bool, device=mask.device).tril()
        last: Tensor = self.backbone(inputs_embeds=embeddings, attention_mask=attended).last_hidden_state
        return last

    def encode(self, embeddings: Tensor, mask: Tensor) -> Latent:
        x = self.norm(self.project(self.hidden(embeddings, mask))) * mask.unsqueeze(-1)
        return Latent(x, mask, masked_mean(x, mask))


def load(tokenizer: PretrainedTokenizer) -> Any:
    """The tokenizer's model. Raises `ValueError` where it cannot be used or lacks weights.

    It has no weights of its own yet on the meta device, nor where a saved tokenizer's folder is gone: a saved model brings them.
    """
    try:
        from transformers import AutoConfig, AutoModel
    except ImportError:
        raise ValueError('the text encoder pretrained needs the package transformers: pip install "ibllm[pretrained]"') from None
    described = dict(tokenizer.vocabulary.model)
    settings = AutoConfig.for_model(described.get("model_type", "")).__class__.from_dict(described)
    check(settings, tokenizer.max_length)
    settings.use_cache = False
    given = {"dtype": torch.float32, "attn_implementation": "sdpa"}
    folder = tokenizer.folder
    if folder is None or torch.empty(()).is_meta:
        model = AutoModel.from_config(settings, **given)
    else:
        with without_messages():
            model, report = AutoModel.from_pretrained(
                str(folder), config=settings, local_files_only=True, use_safetensors=True, output_loading_info=True, **given
            )
        missing = sorted(name for name in report["missing_keys"] if not name.startswith("pooler."))
        if missing:
            raise ValueError(f"{folder}: expected all weights of a {type(model).__name__}; {missing[0]} is missing")
    if getattr(model, "pooler", None) is not None:
        model.pooler = None  # unused, so it would get no gradient
    return model


def check(settings: Any, max_length: int) -> None:
    """Raises `ValueError` where a model is no text encoder that sees whole texts of `max_length` tokens."""
    if getattr(settings, "is_encoder_decoder", False):
        raise ValueError(f"model_type = {settings.model_type!r}: expected an encoder or a decoder alone, not both")
    if any(kind.startswith(("sliding", "chunked")) for kind in getattr(settings, "layer_types", None) or ()):
        raise ValueError(f"model_type = {settings.model_type!r}: expected a model whose layers all see the whole text")
    longest = getattr(settings, "max_position_embeddings", max_length)
    if max_length > longest:
        raise ValueError(f"max_length = {max_length}: expected at most the model's {longest}")


def add_adapters(backbone: Any, config: PretrainedTextEncoderConfig) -> None:
    """Puts W + alpha/rank · B A in the place of some weights W (Hu et al. 2022, eq. 3). B starts at zero, so at first nothing changes.

    Raises `ValueError` where the model has no such layers.
    """
    try:
        from peft import LoraConfig, inject_adapter_in_model
    except ImportError:
        raise ValueError('mode = "lora" needs the package peft: pip install "ibllm[pretrained]"') from None
    from transformers.pytorch_utils import Conv1D

    # GPT-2's layers are linear ones with their weights transposed, which adapters must be told.
    transposed = any(isinstance(module, Conv1D) for module in backbone.modules())
    settings = LoraConfig(r=config.rank, lora_alpha=config.alpha, target_modules=list(config.targets) or None, fan_in_fan_out=transposed)
    try:
        inject_adapter_in_model(settings, backbone)
    except ValueError as error:
        kind = backbone.config.model_type
        raise ValueError(f"targets = {config.targets}: expected names of layers of model_type {kind!r}; {error}") from error


def keep_as_buffers(backbone: nn.Module) -> None:
    """Turns every parameter that wants no gradient into a buffer of its name."""
    for module in backbone.modules():
        for name, parameter in list(module.named_parameters(recurse=False)):
            if not parameter.requires_grad:
                delattr(module, name)
                module.register_buffer(name, parameter.detach())


@contextmanager
def without_messages() -> Iterator[None]:
    """Without the progress bars and reports that `transformers` writes."""
    from transformers.utils import logging

    bars, level = logging.is_progress_bar_enabled(), logging.get_verbosity()
    logging.disable_progress_bar()
    logging.set_verbosity_error()
    try:
        yield
    finally:
        logging.set_verbosity(level)
        if bars:
            logging.enable_progress_bar()
