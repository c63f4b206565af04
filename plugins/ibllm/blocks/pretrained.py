"""Models of Hugging Face's libraries as (sub-)modules of ours: loaded from a folder, frozen, tuned or with adapters.

The libraries take seconds to import, so they are imported when such a part is built.
"""

from __future__ import annotations

import importlib
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ibllm.local_model import WEIGHTS, AdaptingConfig

#: Names of weights that are listed.
SHOWN = 4


def library(name: str, user: str) -> Any:
    """The module of an extra. Raises `ValueError`, with what to install for `user`, where it is missing."""
    try:
        return importlib.import_module(name)
    except ImportError:
        package = name.partition(".")[0]
        extra = "diffusers" if package == "diffusers" else "pretrained"
        raise ValueError(f'{user} needs the package {package}: pip install "ibllm[{extra}]"') from None


def dtype_of(config: AdaptingConfig) -> torch.dtype:
    """The type that a model's weights are kept in."""
    found = getattr(torch, config.dtype)
    assert isinstance(found, torch.dtype)
    return found


def load_local(
    cls: Any,
    folder: Path | None,
    settings: Any,
    *,
    dtype: torch.dtype = torch.float32,
    but: Iterable[str] = (),
    others: Iterable[str] = (),
    weightless: bool = False,
) -> tuple[Any, tuple[str, ...]]:
    """A model of `transformers`, and what a user should know of its weights.

    Args:
        cls: its class, or one of the library's Auto classes.
        folder: where its weights are; None where a saved model is to bring them. They are not read on the meta device.
        settings: its configuration.
        but: beginnings of names whose weights may be missing, since nobody uses them.
        others: beginnings of names that belong to another part of the same folder, a pair's other tower, and are no news.
        weightless: the folder may lack them, since a saved model may bring them and nobody but the folder knows the configuration.

    Raises:
        ValueError: weights are missing, or no file of weights is there.
    """
    given = {"dtype": dtype, "attn_implementation": "sdpa"}
    make = cls.from_config if hasattr(cls, "from_config") else cls._from_config
    gone = weightless and folder is not None and not any(folder.glob(WEIGHTS))
    if folder is None or gone or torch.empty(()).is_meta:
        return make(settings, **given), ((f"{folder} has no weights: they are to come from a saved model",) if gone else ())
    with without_messages():
        model, report = cls.from_pretrained(
            str(folder), config=settings, local_files_only=True, use_safetensors=True, output_loading_info=True, **given
        )
    missing = sorted(name for name in report["missing_keys"] if not name.startswith(tuple(but)))
    if missing:
        raise ValueError(f"{folder}: expected all weights of a {type(model).__name__}; {_listed(missing)} missing")
    unused = sorted(name for name in report["unexpected_keys"] if not name.startswith(tuple(others)))
    return model, ((f"{folder}: {_listed(unused)} not used by a {type(model).__name__}",) if unused else ())


def _listed(names: list[str]) -> str:
    more = f" and {len(names) - SHOWN} more" if len(names) > SHOWN else ""
    return f"{', '.join(names[:SHOWN])}{more} {'is' if len(names) == 1 else 'are'}"


def adapt(model: nn.Module, config: AdaptingConfig) -> None:
    """Freezes a model, or puts adapters into it, or leaves all of it to be trained, as the options say.

    What is not trained becomes a buffer: it is saved with the rest and gets no gradient, whoever trains the part. A weight that stands in several places
    (a head that is the embedding) is kept, counted and saved once.

    Raises `ValueError` where adapters cannot be put in.
    """
    if config.mode == "lora":
        add_adapters(model, config)
    elif config.mode == "frozen":
        model.requires_grad_(False)
    tie(model)
    if config.mode != "tuned":
        keep_as_buffers(model)


def add_adapters(model: Any, config: AdaptingConfig) -> None:
    """Puts W + alpha/rank · B A in the place of some weights W (Hu et al. 2022, eq. 3). B starts at zero, so at first nothing changes.

    Raises `ValueError` where the model has no such layers.
    """
    peft = library("peft", 'mode = "lora"')
    from transformers.pytorch_utils import Conv1D

    # GPT-2's layers are linear ones with their weights transposed, which adapters must be told.
    transposed = any(isinstance(module, Conv1D) for module in model.modules())
    usual = model.config.model_type in peft.utils.constants.TRANSFORMERS_MODELS_TO_LORA_TARGET_MODULES_MAPPING
    targets = list(config.targets) or (None if usual else "all-linear")
    settings = peft.LoraConfig(r=config.rank, lora_alpha=config.alpha, target_modules=targets, fan_in_fan_out=transposed)
    try:
        peft.inject_adapter_in_model(settings, model)
    except ValueError as error:
        kind = model.config.model_type
        raise ValueError(f"targets = {config.targets}: expected names of layers of model_type {kind!r}; {error}") from error
    for parameter in model.parameters():
        if parameter.requires_grad:
            parameter.data = parameter.data.float()


class Tied(nn.Module):
    """An embedding or a linear layer whose weight is another module's, which alone owns it."""

    def __init__(self, own: nn.Module, owner: nn.Module) -> None:
        super().__init__()
        self._owner, self._looks_up = (owner,), isinstance(own, nn.Embedding)
        self.bias = getattr(own, "bias", None)

    @property
    def weight(self) -> Any:
        return self._owner[0].weight

    def forward(self, x: Tensor) -> Tensor:
        return F.embedding(x, self.weight) if self._looks_up else F.linear(x, self.weight, self.bias)


def tie(model: nn.Module) -> None:
    """Gives every weight that several embeddings and heads share one owner, so that a state dict holds it once and moving the model keeps it shared."""
    owners: dict[int, nn.Module] = {}
    for name, module in list(model.named_modules()):
        weight = getattr(module, "weight", None)
        if type(module) not in (nn.Embedding, nn.Linear) or weight is None:
            continue
        owner = owners.setdefault(id(weight), module)
        if owner is not module:
            parent, _, own = name.rpartition(".")
            setattr(model.get_submodule(parent), own, Tied(module, owner))


def keep_as_buffers(model: nn.Module) -> None:
    """Turns every parameter that wants no gradient into a buffer of its name."""
    for module in model.modules():
        for name, parameter in list(module.named_parameters(recurse=False)):
            if not parameter.requires_grad:
                delattr(module, name)
                module.register_buffer(name, parameter.detach())


def recomputable(model: nn.Module, within: str) -> tuple[str, ...]:
    """Names of the lists of blocks that a model of `transformers` may recompute in its backward pass, as a part's `checkpointed` says them.

    Args:
        within: the name that the part has for the model.
    """
    from transformers.modeling_layers import GradientCheckpointingLayer

    lists = dict.fromkeys(
        name.rpartition(".")[0] for name, module in model.named_modules() if isinstance(module, GradientCheckpointingLayer)
    )
    return tuple(f"{within}.{name}" for name in lists if isinstance(model.get_submodule(name), nn.ModuleList))


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


def settings_of(described: dict[str, Any], user: str) -> Any:
    """The configuration of `transformers` that a config.json describes. Raises `ValueError` where the library has none of its model_type."""
    transformers = library("transformers", user)
    kind = described.get("model_type", "")
    try:
        made = transformers.AutoConfig.for_model(kind)
    except (ValueError, KeyError) as error:
        raise ValueError(f"model_type = {kind!r}: expected one that transformers {transformers.__version__} knows; {error}") from None
    return type(made).from_dict(described)
