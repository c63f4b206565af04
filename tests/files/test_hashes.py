"""Contents are read once: what is known of a place as it stands is not read again."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from ibllm import hashes
from ibllm.hashes import KeyedFile, content_hashes


class Counted(KeyedFile):
    """A file that counts how often it is opened."""

    opened = 0

    def open(self):  # type: ignore[no-untyped-def]
        Counted.opened += 1
        return super().open()


@pytest.fixture
def files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[Counted]:
    """Two files that were changed an hour ago, and a cache of their own."""
    monkeypatch.setenv("IBLLM_CACHE", str(tmp_path / "cache"))
    Counted.opened = 0
    made = []
    for name in ("a", "b"):
        path = tmp_path / name
        path.write_text(name)
        os.utime(path, (1_700_000_000, 1_700_000_000))
        made.append(Counted(path))
    return made


def test_a_file_is_read_once_and_again_when_it_has_changed(files: list[Counted]) -> None:
    first = content_hashes(files)
    assert first[0] != first[1] and all(len(one) == 32 for one in first) and Counted.opened == 2
    assert content_hashes(files) == first and Counted.opened == 2
    files[0].path.write_text("c")
    changed = content_hashes(files)
    assert changed[0] != first[0] and changed[1] == first[1] and Counted.opened == 3


def test_a_change_a_moment_ago_may_be_followed_by_another_in_the_same_tick(files: list[Counted]) -> None:
    files[0].path.write_text("x")
    before = content_hashes(files[:1])
    assert content_hashes(files[:1]) == before and Counted.opened == 2, "read again: what is younger than the clock's tick is not kept"


def test_what_cannot_be_read_has_no_hash_and_a_damaged_cache_is_made_anew(files: list[Counted], monkeypatch: pytest.MonkeyPatch) -> None:
    (hashes.cache_folder()).mkdir()
    (hashes.cache_folder() / "hashes.sqlite").write_bytes(b"no database" * 100)
    first = content_hashes(files)
    assert content_hashes(files) == first and Counted.opened == 2
    files[1].path.unlink()
    assert content_hashes(files) == [first[0], ""]
    monkeypatch.setenv("IBLLM_CACHE", "/dev/null/nowhere")
    assert content_hashes(files[:1]) == first[:1], "where nothing can be kept, everything is read"
