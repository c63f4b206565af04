"""One arm of a comparison in a process of its own: ``python -m ibllm_export.worker``. An arm of graphs imports neither ibllm nor torch.

It reads a JSON object a line and answers with one: first what it is to be, ``{"arm": …, "run": …, "folder": …, "threads": …}``, then what to do:
``{"do": "draw" | "caption", "items": […], "batch": n, "times": n, "within": seconds}`` → ``{"seconds": […]}``, ``{"do": "about"}`` →
``{"memory": bytes, "size": bytes}``, ``{"do": "figures", "split": …, "items": n}`` → ``{"figures": {…}}``. What goes wrong is ``{"error": reason}``.
"""

from __future__ import annotations

import json
import resource
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np

#: What a model's own passes are called that use goes through.
PASSES = {"text_encoder": "forward", "image_decoder": "draw", "image_encoder": "forward", "text_decoder": "step"}


class Graphs:
    """The exported graphs, by onnxruntime alone."""

    def __init__(self, spec: dict[str, Any]) -> None:
        from .run_onnx import Exported

        self.folder = Path(spec["folder"])
        self.exported = Exported(self.folder, spec["threads"])

    def draw(self, texts: list[str], seed: int) -> None:
        """Draws texts."""
        self.exported.generate(texts, seed)

    def caption(self, pixels: Any) -> None:
        """Captions images (b h w c)."""
        self.exported.caption(pixels)

    def size(self) -> int:
        """Bytes of the graphs."""
        return sum(path.stat().st_size for path in self.folder.iterdir() if ".onnx" in path.name)


class Torch:
    """The model by PyTorch: as it is, compiled, under bfloat16, or with its linear layers in int8."""

    def __init__(self, spec: dict[str, Any]) -> None:
        import torch

        import ibllm

        torch.set_num_threads(spec["threads"])
        self.opened = ibllm.open(spec["run"], device="cpu")
        self.model, self.bytes = self.opened.model, 4
        used = ("text_encoder", "image_decoder", "image_tokenizer", "image_encoder", "text_decoder")
        if spec["arm"] == "compiled":
            _compile(self.model)
        elif spec["arm"] == "bf16":
            self.model.autocast, self.bytes = torch.bfloat16, 2
        elif spec["arm"] == "int8":
            _quantise(self.model)
        self.parts = [part for name, part in self.model.parts.items() if name in used]

    def draw(self, texts: list[str], seed: int) -> None:
        """Draws texts."""
        self.model.generate(texts, seed=seed)

    def caption(self, pixels: Any) -> None:
        """Captions images (b h w c), greedily."""
        self.model.caption(pixels, beams=1)

    def size(self) -> int:
        """Bytes of the parts in use, with bfloat16 as `ibllm export --quantize bf16` stores them."""
        import io

        import torch

        file = io.BytesIO()
        torch.save([part.state_dict() for part in self.parts], file)
        return len(file.getvalue()) * self.bytes // 4

    def figures(self, split: str, items: int) -> dict[str, float]:
        """The run's own figures."""
        from .figures import measured

        return measured(self.opened, self.model, split, items)


def _compile(model: Any) -> None:
    """Compiles the passes that use goes through; the first item of each shape takes long."""
    import torch

    from ibllm.passes import leave_uncompiled

    leave_uncompiled()
    for name, method in PASSES.items():
        if name not in model.parts:
            continue
        part = model.parts[name]
        if not hasattr(part, method):
            raise RuntimeError(f"{name} draws in many steps, whose loop torch.compile would unroll")
        setattr(part, method, torch.compile(getattr(part, method)))


def _quantise(model: Any) -> None:
    """Linear layers to int8, what they are multiplied with as it comes."""
    import warnings

    import torch

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # that torch.ao is to move
        for name in PASSES:
            if name in model.parts:
                torch.ao.quantization.quantize_dynamic(model.parts[name], {torch.nn.Linear}, torch.qint8, inplace=True)  # type: ignore[no-untyped-call]


def _timed(arm: Any, order: dict[str, Any]) -> dict[str, Any]:
    """Seconds that each call took, of `times` calls of `batch` items: fewer where they take longer than `within`, at least one."""
    items, batch = order["items"], order["batch"]
    pixels = np.array(items, np.uint8) if order["do"] == "caption" else None
    seconds = []
    for call in range(order["times"]):
        rows = [(call * batch + n) % len(items) for n in range(batch)]
        start = time.perf_counter()
        if pixels is None:
            arm.draw([items[row] for row in rows], call)
        else:
            arm.caption(pixels[rows])
        seconds.append(time.perf_counter() - start)
        if sum(seconds) >= order["within"]:
            break
    return {"seconds": seconds}


def _answer(arm: Any, order: dict[str, Any]) -> dict[str, Any]:
    if order["do"] in ("draw", "caption"):
        return _timed(arm, order)
    if order["do"] == "figures":
        return {"figures": arm.figures(order["split"], order["items"])}
    return {"memory": peak(), "size": arm.size()}


def peak() -> int:
    """The most bytes of memory that this process held."""
    try:  # ru_maxrss holds what the parent had when it forked, too
        lines = Path("/proc/self/status").read_text(encoding="utf-8").splitlines()
        return next(int(line.split()[1]) * 1024 for line in lines if line.startswith("VmHWM:"))
    except (OSError, StopIteration):
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)


def main() -> None:
    """Answers until there is nothing more to read."""
    answers, sys.stdout = sys.stdout, sys.stderr  # what libraries print is no answer
    arm: Any = None
    for line in sys.stdin:
        order = json.loads(line)
        try:
            if arm is None:
                arm = (Graphs if "folder" in order else Torch)(order)
                answer: dict[str, Any] = {"ready": True}
            else:
                answer = _answer(arm, order)
        except Exception as error:  # whatever a library raises is the arm's reason
            said = [line.strip() for line in str(error).splitlines() if line.strip()]
            answer = {"error": f"{type(error).__name__}: {said[0] if said else ''}"}
        print(json.dumps(answer), file=answers, flush=True)


if __name__ == "__main__":
    main()
