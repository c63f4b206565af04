"""Parts that do not keep their contract are named before anything is spent."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from ibllm_cnn.image_encoder import CNNImageEncoder
from ibllm_gan.cross_attention import CrossAttentionGenerator
from ibllm_objectives.likelihood import ImageNLL
from ibllm_transformer.text_decoder import TransformerTextDecoder
from ibllm_transformer.text_encoder import TransformerTextEncoder
from torch import Tensor

from ibllm.contracts import check
from ibllm_core.host.attribution import ComponentFailed
from ibllm_core.interfaces.latent import Latent


def test_a_good_recipe_gives_a_table(tiny) -> None:  # type: ignore[no-untyped-def]
    report = check(tiny())
    rows = {row.part: row for row in report.parts}
    assert set(rows) == {"text_encoder", "image_decoder", "image_encoder", "text_decoder", "discriminator"}
    assert all(row.parameters > 0 and row.flops > 0 and row.weights >= 4 * row.parameters for row in rows.values())
    assert [stage.stage for stage in report.stages] == ["text", "image", "joint"]
    assert all(stage.saved > 0 and stage.trained > 0 for stage in report.stages)


def test_parameters_are_those_of_the_built_part(tiny) -> None:  # type: ignore[no-untyped-def]
    from ibllm_core.model import build

    recipe = tiny()
    model = build.build_model(recipe, build.build_tokenizers(recipe), build.image_shape(recipe))
    counted = {row.part: row.parameters for row in check(recipe).parts}
    assert counted == {name: sum(p.numel() for p in part.parameters()) for name, part in model.parts.items()}


def too_wide(self: Any, y: Tensor) -> Latent:
    n = len(y)
    return Latent(y.new_zeros(n, 4, 99), torch.ones(n, 4, dtype=torch.bool, device=y.device), y.new_zeros(n, 99))


def float_mask(self: Any, embeddings: Tensor, mask: Tensor) -> Latent:
    return Latent(embeddings, mask.float(), embeddings.mean(1))


def transposed(self: Any, z: Latent, noise: Tensor) -> Tensor:
    return torch.zeros(len(z), 32, 32, 3, device=noise.device)


def not_reduced(self: Any, y: Tensor, drawn: Tensor) -> Tensor:
    return (y - drawn).square()


def short(self: Any, ids: Tensor, state: Any) -> tuple[Tensor, Any]:
    return torch.zeros(len(ids), 5, device=ids.device), state


def crash(self: Any, *_: Any) -> Any:
    raise RuntimeError("no such kernel")


def no_mean(self: Any, cycle: Any) -> Tensor:
    nll: Tensor = cycle.image_nll
    return nll


def in_place(method: Any) -> Any:
    """The method, which overwrites the first tensor it is handed before it does its work."""

    def broken(self: Any, given: Any, *rest: Any) -> Any:
        first = given if isinstance(given, Tensor) else getattr(given, "pooled", None)
        (first if first is not None else given.y_fake).mul_(0)
        return method(self, given, *rest)

    return broken


@pytest.mark.parametrize(
    ("owner", "method", "broken", "said"),
    [
        (CNNImageEncoder, "forward", too_wide, ["model.image_encoder = cnn", "tokens has shape (3, 4, 99)", "axis d is wrong"]),
        (TransformerTextEncoder, "encode", float_mask, ["model.text_encoder = transformer", "not bool"]),
        (CrossAttentionGenerator, "draw", transposed, ["model.image_decoder = cross_attention", "text_encoder = transformer"]),
        (CrossAttentionGenerator, "likelihood", not_reduced, ["model.image_decoder", "nll has shape", "(b)"]),
        (TransformerTextDecoder, "step", short, ["model.text_decoder", "step has shape (3, 5)", "axis v is wrong"]),
        (TransformerTextDecoder, "logits", crash, ["model.text_decoder", "RuntimeError: no such kernel", "image_encoder = cnn"]),
        (ImageNLL, "forward", no_mean, ["losses.image_nll = image_nll", "value has shape"]),
        (CNNImageEncoder, "forward", in_place(CNNImageEncoder.forward), ["model.image_encoder = cnn", "in place (batch)", "a copy"]),
        (CrossAttentionGenerator, "draw", in_place(CrossAttentionGenerator.draw), ["model.image_decoder", "in place (latents)"]),
        (ImageNLL, "forward", in_place(ImageNLL.forward), ["losses.image_nll = image_nll", "in place (y_fake)"]),
    ],
)
def test_a_broken_part_is_named_with_its_place_and_provider(
    tiny: Any, monkeypatch: pytest.MonkeyPatch, owner: type, method: str, broken: Any, said: list[str]
) -> None:
    monkeypatch.setattr(owner, method, broken)
    with pytest.raises(ComponentFailed) as caught:
        check(tiny())
    message = str(caught.value)
    assert "tiny.toml:" in message
    assert "ibllm 0.1.0" in message or "ibllm" in message
    for words in said:
        assert words in message


def test_a_part_that_cannot_be_built_is_named(tiny) -> None:  # type: ignore[no-untyped-def]
    with pytest.raises(ComponentFailed, match=r"model.image_decoder = cross_attention .*patch = 7"):
        check(tiny("model.image_decoder.patch=7"))
