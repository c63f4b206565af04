"""What an exporter cannot do is said of the part that it failed in."""

from __future__ import annotations

import sys
import traceback
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager

from ibllm_core.errors import UserError
from ibllm_core.model.model import Model


@contextmanager
def refused(model: Model, names: Mapping[str, str], parts: Sequence[str], doing: str = "") -> Iterator[None]:
    """Whatever is raised within becomes a refusal that names the part; what the system says of files stays as it is.

    Args:
        names: part → what its component is called in messages.
        parts: those that may be at fault.
        doing: what was being done, for the message.

    Raises:
        UserError: names those of `parts` whose code the failure tells of, all of them where it tells of none, with the exporter's reason.
    """
    try:
        yield
    except OSError:
        raise
    except Exception as error:
        told = "".join(traceback.format_exception(error))
        there = [part for part in parts if part in model.parts]
        found = [part for part in there if _file(model.parts[part]) in told] or there
        where = f" ({doing})" if doing else ""
        raise UserError(f"{', '.join(names[part] for part in found)} cannot be exported{where}: {reason(error)}") from error


def _file(part: object) -> str:
    """Where a part's class is written, as a traceback has it."""
    path = getattr(sys.modules.get(type(part).__module__), "__file__", None)
    return f'"{path}"'


def reason(error: BaseException) -> str:
    """The first line of a message that says something. What torch's exporter to ONNX raises tells of its own steps; its cause is the reason."""
    while type(error).__module__.startswith("torch.onnx") and error.__cause__ is not None:
        error = error.__cause__
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return lines[0] if lines else type(error).__name__
