"""What pretrained models take in memory, by ``ibllm check`` on their configurations alone: nothing is fetched, and no weight is made.

Run it as a program to measure anew; it writes docs/measured/pretrained-memory.json, and ``generated.py --write`` the table of docs/how-to/pretrained.md.
"""

from __future__ import annotations

import json
import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

KEPT = Path(__file__).parents[1] / "measured" / "pretrained-memory.json"
LLAMA = {"model_type": "llama", "tie_word_embeddings": True}
QWEN = {"model_type": "qwen2", "vocab_size": 151936, "tie_word_embeddings": True, "max_position_embeddings": 32768}
PAIR = ("text_encoder", "image_encoder")
#: Repository on Hugging Face → the parts that it can be, and what its config.json says of its sizes.
MODELS: Mapping[str, tuple[tuple[str, ...], dict[str, Any]]] = {
    "HuggingFaceTB/SmolLM2-135M-Instruct": (
        ("text_decoder",),
        {**LLAMA, "hidden_size": 576, "intermediate_size": 1536, "num_hidden_layers": 30, "num_attention_heads": 9, "num_key_value_heads": 3,
         "vocab_size": 49152, "max_position_embeddings": 8192},
    ),
    "openai-community/gpt2": (("text_decoder",), {"model_type": "gpt2"}),
    "google/flan-t5-base": (
        ("text_decoder",),
        {"model_type": "t5", "is_encoder_decoder": True, "d_model": 768, "d_kv": 64, "d_ff": 2048, "num_layers": 12, "num_decoder_layers": 12,
         "num_heads": 12, "vocab_size": 32128, "feed_forward_proj": "gated-gelu", "tie_word_embeddings": False, "decoder_start_token_id": 0},
    ),
    "Qwen/Qwen2.5-0.5B-Instruct": (
        ("text_decoder",),
        {**QWEN, "hidden_size": 896, "intermediate_size": 4864, "num_hidden_layers": 24, "num_attention_heads": 14, "num_key_value_heads": 2},
    ),
    "meta-llama/Llama-3.2-1B-Instruct": (
        ("text_decoder",),
        {**LLAMA, "hidden_size": 2048, "intermediate_size": 8192, "num_hidden_layers": 16, "num_attention_heads": 32, "num_key_value_heads": 8,
         "head_dim": 64, "vocab_size": 128256, "max_position_embeddings": 131072},
    ),
    "Qwen/Qwen2.5-7B-Instruct": (
        ("text_decoder",),
        {**QWEN, "vocab_size": 152064, "tie_word_embeddings": False, "hidden_size": 3584, "intermediate_size": 18944, "num_hidden_layers": 28,
         "num_attention_heads": 28, "num_key_value_heads": 4},
    ),
    "openai/clip-vit-base-patch32": (PAIR, {"model_type": "clip", "text_config": {"eos_token_id": 49407}, "vision_config": {}}),
    "google/siglip-base-patch16-224": (PAIR, {"model_type": "siglip", "text_config": {}, "vision_config": {"image_size": 224, "patch_size": 16}}),
    "facebook/dinov2-small": (
        ("image_encoder",),
        {"model_type": "dinov2", "hidden_size": 384, "num_hidden_layers": 12, "num_attention_heads": 6, "patch_size": 14, "image_size": 518},
    ),
    "google/vit-base-patch16-224-in21k": (("image_encoder",), {"model_type": "vit"}),
    "stabilityai/sd-vae-ft-mse": (
        ("image_tokenizer",),
        {"_class_name": "AutoencoderKL", "block_out_channels": [128, 256, 512, 512], "layers_per_block": 2, "latent_channels": 4,
         "down_block_types": ["DownEncoderBlock2D"] * 4, "up_block_types": ["UpDecoderBlock2D"] * 4},
    ),
}  # fmt: skip
#: How a part is set → its column.
WAYS = {"frozen": {}, "bfloat16": {"dtype": "bfloat16"}, "lora": {"mode": "lora"}, "tuned": {"mode": "tuned"}}
GIB = 1024**3


def folder(where: Path, settings: Mapping[str, Any]) -> None:
    """A model's folder but for its weights, of which there is only the name: none is read on the meta device."""
    from tokenizers import Tokenizer, models

    where.mkdir()
    (where / "config.json").write_text(json.dumps(settings), encoding="utf-8")
    (where / "preprocessor_config.json").write_text("{}", encoding="utf-8")
    (where / "model.safetensors").touch()
    names = {"bos_token": "<s>", "eos_token": "</s>", "unk_token": "<unk>", "pad_token": "<pad>"}
    (where / "special_tokens_map.json").write_text(json.dumps(names), encoding="utf-8")
    Tokenizer(models.WordLevel({token: n for n, token in enumerate(names.values())}, "<unk>")).save(str(where / "tokenizer.json"))


def recipe(kind: str, way: Mapping[str, Any], where: Path) -> dict[str, Any]:
    """A recipe with one pretrained part, on images of the user's own size."""
    reads = kind in ("text_encoder", "text_decoder")
    loss = {"text_encoder": "image_nll", "image_encoder": "text_nll", "text_decoder": "text_nll", "image_tokenizer": "image_nll"}[kind]
    parts: dict[str, Any] = {
        "text_encoder": {"image_decoder": {"use": "dcgan"}, "text_encoder": {}},
        "image_encoder": {"image_encoder": {}, "text_decoder": {"use": "lstm"}},
        "text_decoder": {"image_encoder": {"use": "cnn", "channels": [8, 8, 8, 8]}, "text_decoder": {}},
        "image_tokenizer": {
            "text_encoder": {"use": "bag"},
            "image_tokenizer": {},
            "image_decoder": {"use": "flow", "works_on": "latents", "patch": 2, "depth": 1, "width": 32, "heads": 2},
        },
    }[kind]
    parts[kind] = {"use": "pretrained", **way, **({"tokenizer": "own"} if reads else {"model": str(where)})}
    return {
        "format": 1,
        "order": ["only"],
        "data": {"use": "shapes", "size": 64},
        "tokenizers": {"text": {"use": "word", "size": 96}, **({"own": {"use": "pretrained", "model": str(where)}} if reads else {})},
        "model": {"width": 512, **parts},
        "losses": {"only": {"use": loss}},
        "optimizer": {"use": "adamw"},
        "stages": {"only": {"steps": 1, "train": [part for part in parts if part != "image_tokenizer"], "losses": {"only": 1.0}}},
    }


def measured(kind: str, settings: Mapping[str, Any]) -> Iterator[tuple[str, tuple[int, int]]]:
    """(way, bytes of the part's weights and of its gradients and moments), for each way that the part has."""
    from ibllm.contracts import check
    from ibllm_core.recipe import load
    from ibllm_core.recipe.document import to_toml

    for name, way in WAYS.items():
        if kind == "image_tokenizer" and name == "lora":
            continue
        with tempfile.TemporaryDirectory() as made:
            folder(Path(made) / "model", settings)
            file = Path(made) / "recipe.toml"
            file.write_text(to_toml(recipe(kind, way, Path(made) / "model")), encoding="utf-8")
            row = next(row for row in check(load(file)).parts if row.part == kind)
            yield name, (row.weights, row.state)


def table() -> str:
    """The kept figures in Markdown; where there are none yet, the command that measures them."""
    if not KEPT.is_file():
        return "Nothing has been measured for this page yet; `python docs/_ext/pretrained_memory.py` does it."
    kept = json.loads(KEPT.read_text(encoding="utf-8"))
    lines = [
        "| model | part | weights | in bfloat16 | lora, beside them | tuned, beside them |",
        "| --- | --- | ---: | ---: | ---: | ---: |",
    ]
    for name, parts in kept.items():
        for kind, ways in parts.items():
            cells = [ways["frozen"][0], ways["bfloat16"][0], ways.get("lora", [0, 0])[1], ways["tuned"][1]]
            lines.append(f"| `{name}` | `{kind}` | " + " | ".join(f"{one / GIB:.3g} GiB" if one else "–" for one in cells) + " |")
    return "\n".join(lines)


if __name__ == "__main__":
    found = {name: {kind: dict(measured(kind, settings)) for kind in kinds} for name, (kinds, settings) in MODELS.items()}
    KEPT.write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")
    print(table())
