"""Small models of every architecture, as their libraries save them: their sizes tiny, their weights random and seeded."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

SPECIAL = ("<pad>", "<s>", "</s>", "<unk>", "<|user|>", "<|bot|>")
WORDS = ("a", "red", "blue", "green", "circle", "square", "left", "right", "of", "is", "there", "what", "colour", "?", "Describe", "the", "image", ".",
         "Ask", "question", "about")  # fmt: skip
TOKENS = (*SPECIAL, *WORDS)
TEMPLATE = (
    "{{ bos_token }}{% for m in messages %}<|user|> {{ m['content'] }} {{ eos_token }}{% endfor %}"
    "{% if add_generation_prompt %}<|bot|>{% endif %}"
)
NAMES = {"pad_token": "<pad>", "bos_token": "<s>", "eos_token": "</s>", "unk_token": "<unk>"}
#: What Llama, Qwen and their kin call their sizes.
SIZES = {
    "hidden_size": 16,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "intermediate_size": 32,
    "max_position_embeddings": 128,
    "initializer_range": 0.3,
}
IDS = {"pad_token_id": 0, "bos_token_id": 1, "eos_token_id": 2}


def language_models() -> dict[str, Callable[[Any], Any]]:
    """Name → what makes a model of the architecture, with more ids than tokens as large models have."""
    v = len(TOKENS) + 3
    return {
        "llama": lambda t: t.LlamaForCausalLM(t.LlamaConfig(vocab_size=v, **SIZES, **IDS)),
        "qwen2": lambda t: t.Qwen2ForCausalLM(t.Qwen2Config(vocab_size=v, tie_word_embeddings=True, **SIZES, **IDS)),
        "qwen3": lambda t: t.Qwen3ForCausalLM(t.Qwen3Config(vocab_size=v, head_dim=8, **SIZES, **IDS)),
        "gpt2": lambda t: t.GPT2LMHeadModel(
            t.GPT2Config(vocab_size=v, n_embd=16, n_layer=2, n_head=2, n_positions=128, initializer_range=0.3, **IDS)
        ),
        "t5": lambda t: t.T5ForConditionalGeneration(
            t.T5Config(vocab_size=v, d_model=16, d_kv=8, d_ff=32, num_layers=2, num_heads=2, decoder_start_token_id=0,
                       feed_forward_proj="gated-gelu", tie_word_embeddings=False, initializer_factor=4.0, **IDS)
        ),
        "bert": lambda t: t.BertForMaskedLM(
            t.BertConfig(vocab_size=v, hidden_size=16, num_hidden_layers=2, num_attention_heads=2, intermediate_size=32, max_position_embeddings=64)
        ),
    }  # fmt: skip


def write_tokenizer(folder: Path, names: dict[str, str] = NAMES, template: str = TEMPLATE) -> None:
    """A tokenizer of words as a folder of Hugging Face's layout has it."""
    from tokenizers import Tokenizer, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast

    coder = Tokenizer(models.WordLevel({token: number for number, token in enumerate(TOKENS)}, "<unk>"))  # type: ignore[arg-type]
    coder.pre_tokenizer = pre_tokenizers.Whitespace()  # type: ignore[assignment]
    made = PreTrainedTokenizerFast(tokenizer_object=coder, additional_special_tokens=["<|user|>", "<|bot|>"], **names)
    made.chat_template = template or None
    made.save_pretrained(str(folder))


#: What vision models call their sizes: 4 × 4 patches.
VISION = {
    "hidden_size": 16,
    "num_hidden_layers": 3,
    "num_attention_heads": 2,
    "intermediate_size": 32,
    "image_size": 32,
    "patch_size": 8,
    "initializer_range": 0.3,
}
TOWER = {"hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 32}
#: What the pairs' own preprocessing is.
PREPROCESSORS: dict[str, dict[str, Any]] = {
    "clip": {"image_mean": [0.48, 0.46, 0.41], "image_std": [0.27, 0.26, 0.28], "resample": 3},
    "siglip": {"image_mean": [0.5] * 3, "image_std": [0.5] * 3, "resample": 2},
    "dinov2": {"image_mean": [0.485, 0.456, 0.406], "image_std": [0.229, 0.224, 0.225], "resample": 3},
    "vit": {"image_mean": [0.5] * 3, "image_std": [0.5] * 3, "resample": 2},
}


def vision_models() -> dict[str, Callable[[Any], Any]]:
    """Name → what makes a model of the architecture; CLIP and SigLIP with both towers."""
    v = len(TOKENS)
    text = {"vocab_size": v, "max_position_embeddings": 16, **TOWER, **IDS}
    return {
        "clip": lambda t: t.CLIPModel(
            t.CLIPConfig(text_config={**text, "eos_token_id": 2, "projection_dim": 12}, vision_config={**VISION, "projection_dim": 12}, projection_dim=12)
        ),
        "siglip": lambda t: t.SiglipModel(t.SiglipConfig(text_config={**text, "projection_size": 16}, vision_config=VISION)),
        "dinov2": lambda t: t.Dinov2Model(t.Dinov2Config(mlp_ratio=2, **{k: n for k, n in VISION.items() if k != "intermediate_size"})),
        "vit": lambda t: t.ViTModel(t.ViTConfig(**VISION)),
    }  # fmt: skip


def write_preprocessor(folder: Path, kind: str) -> None:
    """The preprocessing of a vision model as a folder of Hugging Face's layout has it."""
    said = {
        "do_resize": True,
        "do_rescale": True,
        "do_normalize": True,
        "rescale_factor": 1 / 255,
        "do_center_crop": False,
        "size": {"height": 32, "width": 32},
    }
    (folder / "preprocessor_config.json").write_text(json.dumps({**said, **PREPROCESSORS[kind]}), encoding="utf-8")


def codecs() -> dict[str, Callable[[Any], Any]]:
    """Name → what makes a codec of `diffusers` for images of 32 × 32."""
    blocks = {"down_block_types": ("DownEncoderBlock2D",) * 3, "up_block_types": ("UpDecoderBlock2D",) * 3, "block_out_channels": (8, 8, 8)}
    dc = {"encoder_block_types": ("ResBlock",) * 3, "decoder_block_types": ("ResBlock",) * 3}
    dc |= {"encoder_block_out_channels": (8, 8, 8), "decoder_block_out_channels": (8, 8, 8)}
    dc |= {"encoder_layers_per_block": (1, 1, 1), "decoder_layers_per_block": (1, 1, 1)}
    dc |= {"encoder_qkv_multiscales": ((), (), ()), "decoder_qkv_multiscales": ((), (), ())}
    return {
        "vq": lambda d: d.VQModel(**blocks, latent_channels=4, num_vq_embeddings=16, vq_embed_dim=4, norm_num_groups=4),
        "kl": lambda d: d.AutoencoderKL(**blocks, latent_channels=4, norm_num_groups=4, scaling_factor=0.5, shift_factor=0.1),
        "dc": lambda d: d.AutoencoderDC(**dc, latent_channels=4, attention_head_dim=4, scaling_factor=0.4),
    }
