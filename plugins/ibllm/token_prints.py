"""Hashes of a run's tokenizers, kept in run.json: a run whose words are not those that it was begun with does not go on."""

from __future__ import annotations

import hashlib

from ibllm_core.errors import UserError
from ibllm_core.runs.directory import RunDirectory
from ibllm_core.training.events import Listener, Prepared, RunStarted


class TokenPrints(Listener):
    """Writes them into the record of a run that begins, and compares where it goes on."""

    def on_run_started(self, event: RunStarted) -> None:
        self._begun = event

    def on_prepared(self, event: Prepared) -> None:
        begun, tokenizers = self._begun, event.session.tokenizers
        prints = {name: hashlib.sha256(tokenizer.state().encode()).hexdigest() for name, tokenizer in tokenizers.items()}
        if not begun.recorded:
            begun.record["tokenizers"] = prints
            return
        directory = RunDirectory(begun.run_directory)
        known = directory.info().get("tokenizers")
        for name, digest in known.items() if isinstance(known, dict) else ():
            if prints.get(name, digest) != digest:
                file = directory.checkpoints / f"tokenizer-{name}.json"
                same = f"; {directory.model / file.name} may be it" if (directory.model / file.name).is_file() else ""
                event.against.append(UserError(f"{file} is not as it was written: put it back{same}. Nothing was changed"))
