"""An opened model as a folder in Hugging Face's layout, and such a folder on the Hub and from it. Torch-free to import.

The layout's file formats are used, not its `PyTorchModelHubMixin`: that one makes a model again from the arguments of its class, whereas a model here is made
from its recipe by whatever packages the recipe names, and the core would have to derive from a library that only sharing needs.
"""

from __future__ import annotations

import os
import shutil
import tempfile
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from ibllm_core.errors import Notice, UserError
from ibllm_core.runs.directory import read_json, replacing, write_json, write_text

from .card import Facts, card, meanings_of

if TYPE_CHECKING:
    from .trained import Trained

__all__ = ["download", "push", "save"]

#: Items of the training data whose captions say which languages there are, and give an example.
ITEMS = 256


def save(model: Trained, folder: Path, licence: str | None = None, name: str = "") -> Path:
    """Writes the folder: config.json, model.safetensors, README.md, recipe.toml, the tokenizers, and what agreement is measured in.

    Raises:
        UserError: there is something already that is no such folder, or the folder cannot be written.
    """
    from . import agreement
    from .api import weights_file

    if folder.exists() and not (folder.is_dir() and (not any(folder.iterdir()) or _is_ours(folder))):
        raise UserError(f"{folder} exists already and is left as it is: it holds something else; choose another place")
    facts = gathered(model, licence, name)
    config = {
        "library_name": "ibllm",
        "model_type": "ibllm",
        "image_shape": list(facts.image_shape),
        "fit": [model.fit.how, model.fit.background],
        "languages": list(facts.languages),
        "license": facts.licence or None,
        "results": dict(facts.results),
        **{
            key: facts.record[key]
            for key in ("attribution", "provenance", "versions", "sources", "hardware", "stages", "example")
            if key in facts.record
        },
        **facts.meanings,
    }
    folder.parent.mkdir(parents=True, exist_ok=True)
    with replacing(folder) as partial:
        partial.mkdir()
        write_json(partial / "config.json", config)
        write_text(partial / "README.md", card(facts))
        _write_weights(model, weights_file(model.folder), partial / "model.safetensors")
        for file in (*sorted(model.folder.glob("tokenizer-*.json")), model.folder / "recipe.toml", model.folder / "ATTRIBUTION.md"):
            if file.is_file():
                shutil.copyfile(file, partial / file.name)
        if model.agrees_by is not None and isinstance(model.space, agreement.Fitted):
            agreement.write_directions(partial / agreement.DIRECTIONS, model.space.directions)
    return folder


def _is_ours(folder: Path) -> bool:
    """Whether `save` wrote the folder and nothing else lies in it, so that a new one may take its place."""
    from .agreement import DIRECTIONS

    written = {"config.json", "model.safetensors", "README.md", "recipe.toml", "ATTRIBUTION.md", DIRECTIONS}
    names = {path.name for path in folder.iterdir() if not path.match("tokenizer-*.json")}
    config = read_json(folder / "config.json") or {}
    return config.get("model_type") == "ibllm" and names <= written


def _write_weights(model: Trained, file: Path, target: Path) -> None:
    """The parts as they are in the opened model, and the losses' own weights as they were."""
    from safetensors.torch import save_file

    from ibllm_core.runs.model_folder import read_weights

    with model.computing() as torch_model:
        parts = torch_model.state_dict()
    losses = {name: tensor for name, tensor in read_weights(file).items() if name.startswith("losses.")}
    tensors = {name: tensor.detach().cpu().contiguous().clone() for name, tensor in {**parts, **losses}.items()}
    save_file(tensors, target, metadata={"format": "pt"})


def gathered(model: Trained, licence: str | None = None, name: str = "") -> Facts:
    """What a card says of a model, from its record, its results and its data."""
    recipe, torch_model = model.recipe, model.model
    record = dict(model.record) | dict(getattr(model, "info", {}))
    results: dict[str, float] = {}
    try:
        results = model.results
    except UserError:
        warnings.warn(Notice(f"{model.path} has no results, so its card has no figures"), stacklevel=4)
    languages, example, credit, known = _of_data(model, record)
    licence = known if licence is None else licence
    if not licence:
        warnings.warn(Notice("the licence of the data is not known, so the card names none; license=... says it"), stacklevel=4)
    reader = torch_model.tokenizers.get("text_encoder") or torch_model.tokenizers.get("text_decoder")
    fit = {"crop": "the middle square is taken", "pad": "the whole image is taken, with bars"}[model.fit.how]
    return Facts(
        name=name or recipe.name,
        recipe=recipe.source,
        data=recipe.data.use,
        parts={
            part: (f"{one.kind}.{one.use}", sum(p.numel() for p in torch_model.part(part).parameters()))
            for part, one in recipe.parts.items()
        },
        image_shape=torch_model.image_shape,
        fit=fit,
        languages=languages,
        licence=licence,
        attribution=credit,
        longest=0 if reader is None else reader.max_length - 2,
        words=_words(reader),
        asks="questions" in recipe.data.config.provides() and "text_decoder" in recipe.parts and _answers(recipe),
        results=results,
        meanings=meanings_of(recipe, record),
        record=record | {"example": example},
        bench=read_json(model.path / "bench.json") or {},
    )


def _answers(recipe: Any) -> bool:
    """Whether a stage trains a loss that asks for questions."""
    used = {name for stage in recipe.running() for name in stage.losses}
    return any("data.questions" in recipe.losses[name].component.config.needs() for name in used if name in recipe.losses)


def _of_data(model: Trained, record: dict[str, Any]) -> tuple[list[str], list[str], str, str]:
    """Languages, an example of a caption, the credit and the licence: of the data where they are here, else of the record."""
    credit = str(record.get("attribution") or "")
    try:
        dataset = model.dataset
    except UserError as error:
        warnings.warn(Notice(f"the data are not here, so the card says of them what the record does ({error})"), stacklevel=5)
        return list(record.get("languages", ())), list(record.get("example", ())), credit, str(record.get("license") or "")
    found = dataset.samples("train", np.arange(min(ITEMS, dataset.sizes()["train"]), dtype=np.int64))
    languages = sorted(set(found.languages or ()) - {"und"})
    return languages, list(found.captions or ())[:1], dataset.attribution() or credit, dataset.licence


def _words(tokenizer: Any) -> Sequence[str]:
    """The vocabulary of a tokenizer of words, as its saved state lists it; nothing of another one's."""
    import json

    try:
        state = json.loads(tokenizer.state()) if tokenizer is not None else None
    except ValueError:
        return ()
    listed = state.get("pieces", ()) if isinstance(state, dict) else state
    return listed if isinstance(listed, list) and all(isinstance(word, str) for word in listed) else ()


def _library() -> Any:
    try:
        import huggingface_hub
    except ImportError:
        raise UserError("sharing models needs the package huggingface_hub: pip install 'ibllm[hub]'") from None
    return huggingface_hub


def push(
    model: Trained, repo: str, *, token: str | None = None, private: bool | None = None, licence: str | None = None, message: str = ""
) -> str:
    """Saves a model and uploads it; the address of the commit. Raises `UserError` where the Hub refuses or cannot be reached."""
    library = _library()
    api = library.HfApi(token=token)
    with tempfile.TemporaryDirectory() as place:
        folder = save(model, Path(place, "model"), licence, repo)
        try:
            api.create_repo(repo, exist_ok=True, private=private)
            done = api.upload_folder(repo_id=repo, folder_path=folder, commit_message=message or f"ibllm: {model.recipe.name}")
        except (library.errors.HfHubHTTPError, library.errors.HFValidationError, OSError, ValueError) as error:
            raise UserError(f"{repo} cannot be uploaded: {error}") from error
    return str(done)


def download(repo: str, *, revision: str | None = None, token: str | None = None) -> Path:
    """A repository of the Hub as a folder in its cache. Raises `UserError` where there is none or it cannot be reached."""
    library = _library()
    try:
        return Path(library.snapshot_download(repo, revision=revision, token=token))
    except (library.errors.HfHubHTTPError, library.errors.HFValidationError, OSError, ValueError) as error:
        raise UserError(f"there is no folder {os.fspath(repo)}, and no such model on the Hub that can be had: {error}") from error
