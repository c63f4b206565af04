"""What a reader of a run's figures should know of how it went: all that was told while nothing stopped for it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from .files import objects


def told(run: Mapping[str, Any]) -> list[str]:
    """Sentences from run.json: parts trained to no purpose, what was passed over, other hardware, recipe or code after a restart, what raised or was lost."""
    out = [*_texts(run.get("notes")), *_texts(run.get("notices"))]
    for entry in objects(run.get("resumed")):
        out.append(f"Resumed at step {entry.get('step', '?')} with changes: {'; '.join(_texts(entry.get('changes')))}")
    for entry in objects(run.get("accepted_code")):
        out.append(f"Resumed with another state of {', '.join(map(str, entry))} than it was started with")
    for entry in objects(run.get("hardware_before")):
        out.append(f"Trained on {entry.get('device', '?')} ({entry.get('cpu', '?')}) before it was resumed")
    for name, entry in _table(run.get("hooks")).items():
        out += [f"{error.get('hook', '?')} of {name} raised {error.get('error', '?')}" for error in objects(_table(entry).get("errors"))]
    out += [f"What was written to {stream} is lost in part: {why}" for stream, why in _table(run.get("output_lost")).items()]
    return out


def _texts(value: object) -> list[str]:
    return [str(entry) for entry in value] if isinstance(value, list) else []


def _table(value: object) -> Mapping[str, Any]:
    return value if isinstance(value, Mapping) else {}
