"""Programs as ONNX graphs: written, compressed, checked. Shapes: b batch, … any."""

from __future__ import annotations

import contextlib
import logging
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor
from torch.export import ExportedProgram

from ibllm_core.errors import UserError

from .graphs import Program

#: Greatest difference from PyTorch that a graph in float32 may have.
TOLERANCE = 1e-3
#: A graph with more bytes of weights keeps them in a file beside it.
LARGE = 2**30
#: Weights of fewer numbers are left as they are.
SMALL = 1024


def require() -> None:
    """Raises `UserError` where what ONNX needs is not installed."""
    import importlib.util

    missing = [name for name in ("onnx", "onnxruntime", "onnxscript") if importlib.util.find_spec(name) is None]
    if missing:
        raise UserError(f"{', '.join(missing)} is not installed: pip install 'ibllm[export]'")


def write(program: Program, path: Path) -> None:
    """Writes a program as a graph."""
    with _quiet():
        made: Any = torch.onnx.export(
            _decomposed(program.program), dynamo=True, input_names=program.inputs, output_names=program.outputs, verbose=False
        )
        size = sum(weight.numel() * weight.element_size() for weight in program.program.state_dict.values())
        made.save(str(path), external_data=size > LARGE)


def _decomposed(program: ExportedProgram) -> ExportedProgram:
    """With what ONNX has no operator for written out."""

    def median(x: Tensor, dim: int, keepdim: bool = False) -> tuple[Tensor, Tensor]:
        values, places = x.sort(dim)
        middle = [some.narrow(dim, (x.shape[dim] - 1) // 2, 1) for some in (values, places)]
        values, places = middle if keepdim else [some.squeeze(dim) for some in middle]
        return values, places

    def cross_entropy(logits: Tensor, ids: Tensor, weight: Tensor | None = None, reduction: int = 1, *rest: Any) -> Any:
        """(b v), (b) → (b). Kept whole by torch, it becomes one number whatever the reduction."""
        if reduction or weight is not None or rest or logits.dim() != 2:
            return NotImplemented
        return -logits.log_softmax(1).gather(1, ids.unsqueeze(1)).squeeze(1)

    attention = torch.ops.aten.scaled_dot_product_attention.default

    def with_heads(query: Tensor, key: Tensor, value: Tensor, mask: Tensor | None = None, *rest: Any, **named: Any) -> Any:
        """(b t d) as (b 1 t d), which is what the exporter translates."""
        if query.dim() != 3:
            return NotImplemented
        mask = mask if mask is None else mask.unsqueeze(1)
        return attention(query.unsqueeze(1), key.unsqueeze(1), value.unsqueeze(1), mask, *rest, **named).squeeze(1)

    table = {torch.ops.aten.median.dim: median, torch.ops.aten.cross_entropy_loss.default: cross_entropy, attention: with_heads}
    return program.run_decompositions(table)


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Without what torch's exporter says of packages that it would know more with."""
    logger = logging.getLogger("torch.onnx._internal.exporter._registration")
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logger.setLevel(level)


def to_int8(path: Path) -> None:
    """Weights of matrix products to int8, one scale a column; what they are multiplied with is quantised as it comes (dynamic quantisation)."""
    from onnxruntime.quantization import QuantType, quantize_dynamic

    with _quiet():
        level = logging.getLogger().level
        logging.getLogger().setLevel(logging.ERROR)  # it advises a step of its own
        try:
            quantize_dynamic(path, path, weight_type=QuantType.QInt8, per_channel=True, op_types_to_quantize=["MatMul", "Gemm"])
        finally:
            logging.getLogger().setLevel(level)


def to_bf16(path: Path) -> None:
    """Weights to bfloat16, which is half of the file; they are computed with in float32."""
    import onnx
    from onnx import TensorProto, helper, numpy_helper

    model = onnx.load(str(path))
    casts = []
    for weight in model.graph.initializer:
        if weight.data_type != TensorProto.FLOAT or np.prod(weight.dims) < SMALL:
            continue
        bits = torch.from_numpy(numpy_helper.to_array(weight).copy()).to(torch.bfloat16).view(torch.int16).numpy()
        name = weight.name
        weight.CopyFrom(TensorProto(name=f"{name}.bf16", data_type=TensorProto.BFLOAT16, dims=weight.dims, raw_data=bits.tobytes()))
        casts.append(helper.make_node("Cast", [weight.name], [name], to=TensorProto.FLOAT))
    for place, cast in enumerate(casts):
        model.graph.node.insert(place, cast)
    onnx.save(model, str(path))


def difference(program: Program, session: Any, inputs: tuple[Tensor, ...]) -> float:
    """The greatest difference between what a graph and the module give for the same inputs, over all outputs."""
    named = dict(zip(program.inputs, (some.numpy() for some in inputs), strict=True))
    got = session.run(None, {one.name: named[one.name] for one in session.get_inputs()})
    with torch.no_grad():
        given = program.module(*inputs)
    expected = given if isinstance(given, tuple) else (given,)
    return max(apart(a, b.numpy()) for a, b in zip(got, expected, strict=True))


def apart(a: npt.NDArray[Any], b: npt.NDArray[Any]) -> float:
    """The greatest difference between two arrays; infinite where one has what is no number and the other has another."""
    a, b = a.astype(np.float64), b.astype(np.float64)
    with np.errstate(invalid="ignore"):
        found = np.where((a == b) | (np.isnan(a) & np.isnan(b)), 0.0, np.abs(a - b))
    return float(np.nan_to_num(found, nan=np.inf, posinf=np.inf).max(initial=0.0))
