"""What devices can do at most, by what they call themselves. Torch-free."""

from __future__ import annotations

from collections.abc import Mapping

import attrs


@attrs.frozen
class Peak:
    """10¹² operations a second, dense, by precision, and whose figures they are."""

    figures: Mapping[str, float]
    source: str


#: Words that a device's name has, the more particular first → its figures. A datasheet's figures with sparsity are halved.
_PEAKS: tuple[tuple[tuple[str, ...], Peak], ...] = (
    (("H200", "NVL"), Peak({"bf16": 835, "tf32": 418, "fp32": 60}, "NVIDIA H200 datasheet")),
    (("H200",), Peak({"bf16": 989, "tf32": 495, "fp32": 67}, "NVIDIA H200 datasheet")),
    (("H100", "NVL"), Peak({"bf16": 835, "tf32": 418, "fp32": 60}, "NVIDIA H100 datasheet")),
    (("H100", "PCIe"), Peak({"bf16": 756, "tf32": 378, "fp32": 51}, "NVIDIA H100 datasheet")),
    (("H100",), Peak({"bf16": 989, "tf32": 495, "fp32": 67}, "NVIDIA H100 datasheet")),
    (("A100",), Peak({"bf16": 312, "tf32": 156, "fp32": 19.5}, "NVIDIA A100 datasheet")),
    (("L40S",), Peak({"bf16": 362, "tf32": 183, "fp32": 91.6}, "NVIDIA L40S datasheet")),
    (("RTX 4090",), Peak({"bf16": 165.2, "tf32": 82.6, "fp32": 82.6}, "NVIDIA Ada GPU architecture, appendix A")),
    (("RTX 3090",), Peak({"bf16": 71, "tf32": 35.6, "fp32": 35.6}, "NVIDIA Ampere GA102 GPU architecture, table 9")),
)


def peak(device: str, precision: str) -> tuple[float, str] | None:
    """(operations a second, source) of a device by its name, in ``bf16``, ``tf32`` or ``fp32``; None where it is not known."""
    for words, found in _PEAKS:
        if all(word in device for word in words):
            return found.figures[precision] * 1e12, found.source
    return None
