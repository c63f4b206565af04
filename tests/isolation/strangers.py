"""Packages that strangers might publish. Each is a whole distribution; what is wrong with it is in its name."""

from __future__ import annotations

from collections.abc import Mapping

import attrs


@attrs.frozen
class Stranger:
    """A distribution with one import package of the same name; `entries` are its plugins."""

    name: str
    files: Mapping[str, str]
    entries: Mapping[str, str]
    version: str = "1.0"

    @property
    def module(self) -> str:
        return self.name.replace("-", "_")


HEAD = "from ibllm_core.host.hookspecs import hookimpl\nfrom ibllm_core.host.spec import ComponentSpec\n"


def stranger(name: str, plugin: str, version: str = "1.0", entry: str = "", **files: str) -> Stranger:
    module = name.replace("-", "_")
    sources = {"plugin.py": plugin} | {f"{file}.py": source for file, source in files.items()}
    return Stranger(name, sources, {entry or name: f"{module}.plugin"}, version)


def offering(module: str, kind: str, name: str, more: str = "") -> str:
    """A plugin module with one component, its parts in ``parts.py``."""
    return (
        f"{HEAD}\n@hookimpl\ndef ibllm_components():\n    return [ComponentSpec(kind={kind!r}, name={name!r}, "
        f"factory='{module}.parts:Part', config='{module}.config:Options', summary='a stranger', {more})]\n"
    )


LOSS_OPTIONS = """
import attrs
from ibllm_core.host.options import LossConfig, option

@attrs.frozen(kw_only=True)
class Options(LossConfig):
    \"\"\"A stranger's loss.\"\"\"

    def needs(self):
        return frozenset({"image_decoder.differentiable_draw"})
"""


def loss(name: str, forward: str, version: str = "1.0", plugin: str = "", head: str = "") -> Stranger:
    """A distribution with a loss of its own name."""
    module = name.replace("-", "_")
    parts = (
        f"import torch\nfrom ibllm_core.interfaces.loss import Loss\n{head}\n\nclass Part(Loss):\n"
        f"    def __init__(self, config, context):\n        super().__init__()\n\n    def forward(self, cycle):\n{forward}"
    )
    return stranger(name, plugin + offering(module, "loss", name), version, config=LOSS_OPTIONS, parts=parts)


ENCODER = """
import torch
from ibllm_core.interfaces.image import ImageEncoder
from ibllm_core.interfaces.latent import Latent


class Part(ImageEncoder):
    def __init__(self, config, context):
        super().__init__()
        self.width = context.width
        self.embed = torch.nn.Linear(3, context.width + 1)

    def forward(self, y):
        tokens = self.embed(y.flatten(2).mean(2))[:, None]
        return Latent(tokens, torch.ones(len(y), 1, dtype=torch.bool, device=y.device), tokens[:, 0])
"""

PLAIN_OPTIONS = """
import attrs
from ibllm_core.host.options import Config

@attrs.frozen(kw_only=True)
class Options(Config):
    \"\"\"None.\"\"\"
"""

WORKER = """        if cycle.step == 1 and os.environ.get("RANK") == "1":
            raise ValueError("no such thing here")
        return cycle.image_nll.mean()
"""

FIGURE_OPTIONS = """
import attrs
from ibllm.figures import Figure
from ibllm_core.host.options import MetricConfig

@attrs.frozen(kw_only=True)
class Options(MetricConfig):
    def figures(self):
        return (Figure("nothing"),)
"""

FIGURE = """
from ibllm_core.interfaces.reporting import Metric

class Part(Metric):
    def __init__(self, config, context): pass

    def evaluate(self, evaluation):
        print("measuring nothing")
        return {"nothing": float("nan")}
"""

BLIND_OPTIONS = """
import attrs
from ibllm_core.host.options import DatasetConfig

@attrs.frozen(kw_only=True)
class Options(DatasetConfig):
    def splits(self):
        return {"train": "seen", "novel-validation": "looked at", "test": "unseen", "novel": "of another kind"}

    def validation_split(self):
        return "novel-validation"

    @property
    def image_shape(self):
        return 3, 32, 32
"""

BLIND = """
import numpy as np
from ibllm_core.interfaces.dataset import Dataset, Samples

class Part(Dataset):
    image_shape = (3, 32, 32)

    def __init__(self, config, context):
        self.config = config

    def sizes(self):
        return dict.fromkeys(self.config.splits(), 16)

    def samples(self, split, indices):
        captions = ["a small red circle"] * len(indices)
        return Samples(indices, np.zeros((len(indices), 3, 32, 32), np.uint8), captions)
"""

STRANGERS = (
    stranger("bad-spec", offering("bad_spec", "loss", "bad_spec").replace("summary='a stranger'", "summary=None"), "0.5"),
    stranger(
        "other-ibllm", offering("other_ibllm", "loss", "other_ibllm") + "\n@hookimpl(optionalhook=True)\ndef ibllm_someday(x):\n    pass\n"
    ),
    stranger("nan-figure", offering("nan_figure", "metric", "nan-figure"), "1.5", config=FIGURE_OPTIONS, parts=FIGURE),
    stranger("blind", offering("blind", "dataset", "blind"), "1.6", config=BLIND_OPTIONS, parts=BLIND),
    stranger("import-error", "raise RuntimeError('needs a licence')\n", "0.3"),
    stranger("missing-dependency", "import a_package_that_is_not_there\n"),
    stranger("newer-api", offering("newer_api", "loss", "from_the_future", "api=99"), "7.0"),
    stranger("retired-api", offering("retired_api", "loss", "from_the_past", "api=0"), "0.1"),
    stranger("misspelt-hook", f"{HEAD}\n@hookimpl\ndef ibllm_stage_endet(stage):\n    pass\n"),
    stranger("clash-one", offering("clash_one", "loss", "wanted_by_two")),
    stranger("clash-two", offering("clash_two", "loss", "wanted_by_two"), "2.0"),
    stranger("twin-one", offering("twin_one", "loss", "twin_one"), entry="twin"),
    stranger("twin-two", offering("twin_two", "loss", "twin_two"), "2.0", entry="twin"),
    stranger("wrong-shapes", offering("wrong_shapes", "image_encoder", "wrong_shapes"), "1.1", config=PLAIN_OPTIONS, parts=ENCODER),
    loss("gives-nan", "        return cycle.image_nll.mean() * torch.where(torch.tensor(cycle.step > 0), torch.nan, 1.0)\n", "1.2"),
    loss("nan-gradient", "        return cycle.image_nll.mean() + (cycle.y_fake.mean() * 0).sqrt()\n"),
    loss("changes-input", "        return cycle.y_fake.clamp_(-0.5, 0.5).square().mean()\n", "1.3"),
    loss(
        "prints",
        "        return cycle.image_nll.mean()\n",
        plugin="import os, sys\nprint('welcome')\nos.system('echo from a child')\nsys.stdout.write('[')\n",
        head="print('parts are here')",
    ),
    loss("worker", WORKER, "1.4", head="import os\n"),
)
