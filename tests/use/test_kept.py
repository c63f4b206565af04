"""What an opened model leaves on a disk or a hub: folders in Hugging Face's layout, its card, the index of a search."""

from __future__ import annotations

import base64
import json
import os
import re
import shutil
import threading
import warnings
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

import ibllm
from ibllm import search
from ibllm.trained import Trained
from ibllm_core.errors import Notice, UserError

CIRCLE, RING = "a small red circle at the top left", "a large blue ring at the bottom right"


@pytest.fixture(scope="module")
def m(run: Path) -> Trained:
    return ibllm.open(run)


@pytest.fixture(scope="module")
def folder(m: Trained, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return m.save_pretrained(tmp_path_factory.mktemp("kept") / "made" / "tiny")


def notices(call: Callable[[], Any]) -> list[str]:
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        call()
    return [str(warning.message) for warning in caught if issubclass(warning.category, Notice)]


def test_a_saved_model_is_the_model(m: Trained, folder: Path, tmp_path: Path) -> None:
    again = ibllm.from_pretrained(folder)
    assert (again.generate(CIRCLE, output="numpy") == m.generate(CIRCLE, output="numpy")).all()
    assert again.results == m.results and again.fit == m.fit
    picture = m.generate(CIRCLE)
    assert again.score(picture, CIRCLE) == m.score(picture, CIRCLE)
    first = {path.name: path.read_bytes() for path in folder.iterdir()}
    again.save_pretrained(tmp_path / "copy")
    assert {path.name for path in (tmp_path / "copy").iterdir()} == set(first)
    assert (tmp_path / "copy" / "model.safetensors").read_bytes() == first["model.safetensors"]
    again.save_pretrained(tmp_path / "copy")  # over what it wrote itself


def test_what_the_folder_holds_is_read_by_hugging_faces_own_library(folder: Path, m: Trained) -> None:
    import huggingface_hub
    from safetensors import safe_open

    config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    assert config["library_name"] == "ibllm" and config["image_shape"] == [3, 32, 32]
    with safe_open(folder / "model.safetensors", "pt") as file:
        assert file.metadata() == {"format": "pt"}
    card = huggingface_hub.ModelCard.load(folder / "README.md")
    assert card.data.license == "mit" and card.data.language == ["en"] and card.data.library_name == "ibllm"
    assert card.data.pipeline_tag == "text-to-image" and {"text-to-image", "image-to-text"} <= set(card.data.tags)
    text = card.text
    assert "32 × 32 pixels" in text and "at most 22 tokens" in text and "`image_decoder.cross_attention`" in text
    assert 'use = "cross_attention"' in text, "the recipe"
    assert str(sum(p.numel() for p in m.model.part("text_encoder").parameters())) in text.replace(",", "")


def test_the_cards_figures_are_those_of_the_run(m: Trained, folder: Path, tmp_path: Path) -> None:
    import huggingface_hub

    shutil.copytree(m.path, tmp_path / "run")
    results = {"test/scene_exact": 0.25, "novel/scene_exact": 0.931, "test/items": 8}
    (tmp_path / "run" / "results.json").write_text(json.dumps(results), encoding="utf-8")
    record = json.loads((tmp_path / "run" / "run.json").read_text(encoding="utf-8"))
    record["figures"]["scene_exact"] = {"label": "scenes right", "direction": "text → image", "better": "higher", "percent": True}
    (tmp_path / "run" / "run.json").write_text(json.dumps(record), encoding="utf-8")
    (tmp_path / "run" / "bench.json").write_text(json.dumps({"markdown": "| form | a second |"}), encoding="utf-8")
    card = huggingface_hub.ModelCard.load(ibllm.open(tmp_path / "run").save_pretrained(tmp_path / "out") / "README.md")
    assert "| scenes right | 25.0 % | 93.1 % |" in card.text and "| form | a second |" in card.text
    assert re.search(r"\(`test`\) it fails more often than not: scenes right 25.0 %", card.text)
    found = {(one.dataset_split, one.metric_type, one.metric_value) for one in card.data.eval_results}
    assert found == {("test", "scene_exact", 0.25), ("novel", "scene_exact", 0.931)}


def test_nothing_of_anothers_is_written_over(m: Trained, tmp_path: Path) -> None:
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "thesis.tex").write_text("…", encoding="utf-8")
    (tmp_path / "file").write_text("…", encoding="utf-8")
    for name in ("mine", "file"):
        with pytest.raises(UserError, match="exists already and is left as it is"):
            m.save_pretrained(tmp_path / name)
    with pytest.raises(UserError, match="file"):
        m.save_pretrained(tmp_path / "file" / "below")


def test_damaged_folders_are_refused(folder: Path, tmp_path: Path) -> None:
    for name, content, words in (
        ("model.safetensors", b"no", "is damaged"),
        ("config.json", b"[]", "is damaged"),
        ("recipe.toml", b"format = 1", "recipe.toml"),
    ):
        shutil.copytree(folder, tmp_path / name)
        (tmp_path / name / name).write_bytes(content)
        with pytest.raises(UserError, match=words):
            ibllm.from_pretrained(tmp_path / name).generate(CIRCLE)


class Hub(BaseHTTPRequestHandler):
    """As much of the Hub as uploading small files and downloading them takes."""

    files: dict[str, bytes]

    def _answer(self, value: Any, status: int = 200, **headers: str) -> None:
        body = value if isinstance(value, bytes) else json.dumps(value).encode()
        self.send_response(status)
        for name, text in {"Content-Length": str(len(body)), **headers}.items():
            self.send_header(name.replace("_", "-"), text)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    def do_POST(self) -> None:
        sent = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        if self.path == "/api/repos/create":
            self._answer({"url": f"http://{self.headers['Host']}/me/tiny"})
        elif "/preupload/" in self.path:
            self._answer(
                {"files": [{"path": one["path"], "uploadMode": "regular", "shouldIgnore": False} for one in json.loads(sent)["files"]]}
            )
        elif "/commit/" in self.path:
            lines = [json.loads(line) for line in sent.splitlines()]
            self.files.update(
                {line["value"]["path"]: base64.b64decode(line["value"]["content"]) for line in lines if line["key"] == "file"}
            )
            self._answer({"success": True, "commitOid": "0" * 40, "commitUrl": f"http://{self.headers['Host']}/me/tiny/commit/{'0' * 40}"})
        else:
            self._answer({}, 200 if self.path == "/api/validate-yaml" else 404)

    def do_GET(self) -> None:
        name = self.path.partition("?")[0].rpartition(f"/resolve/{'0' * 40}/")[2]
        if self.path.startswith("/api/models/me/tiny/tree/"):
            self._answer([{"type": "file", "path": path, "size": len(content), "oid": "1" * 40} for path, content in self.files.items()])
        elif self.path.startswith("/api/models/me/tiny"):
            self._answer({"id": "me/tiny", "sha": "0" * 40, "siblings": [{"rfilename": path} for path in self.files]})
        elif name in self.files:
            self._answer(self.files[name], ETag=f'"{name}"', X_Repo_Commit="0" * 40)
        else:
            self._answer({"error": "Repository not found"}, 404, X_Error_Code="RepoNotFound")

    def do_HEAD(self) -> None:
        self.do_GET()

    def log_message(self, *_: Any) -> None:
        pass


@pytest.fixture
def hub(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[type[Hub]]:
    import huggingface_hub

    handler = type("Handler", (Hub,), {"files": {}})
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    address = f"http://127.0.0.1:{server.server_address[1]}"
    for name, value in {
        "ENDPOINT": address,
        "HUGGINGFACE_CO_URL_TEMPLATE": f"{address}/{{repo_id}}/resolve/{{revision}}/{{filename}}",
        "HF_HUB_CACHE": str(tmp_path / "cache"),
        "HF_HUB_OFFLINE": False,
    }.items():
        monkeypatch.setattr(huggingface_hub.constants, name, value)
    monkeypatch.setattr(huggingface_hub.hf_api.api, "endpoint", address)
    yield handler
    server.shutdown()
    server.server_close()


def test_a_model_goes_to_the_hub_and_comes_back(m: Trained, hub: type[Hub]) -> None:
    address = m.push_to_hub("me/tiny", token="hf_test")
    assert address.endswith(f"/me/tiny/commit/{'0' * 40}")
    assert {"README.md", "config.json", "model.safetensors", "recipe.toml"} <= set(hub.files)
    assert b"from_pretrained('me/tiny')" in hub.files["README.md"]
    again = ibllm.from_pretrained("me/tiny", token="hf_test")
    assert (again.generate(CIRCLE, output="numpy") == m.generate(CIRCLE, output="numpy")).all()
    for name in ("me/none", "no name/at all"):
        with pytest.raises(UserError, match="no such model on the Hub"):
            ibllm.from_pretrained(name, token="hf_test")
    with pytest.raises(UserError, match="cannot be uploaded"):
        m.push_to_hub("no name/at all", token="hf_test")


def test_without_the_library_the_extra_is_named(m: Trained, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(__import__("sys").modules, "huggingface_hub", None)
    for call in (lambda: m.push_to_hub("me/tiny"), lambda: ibllm.from_pretrained("me/tiny")):
        with pytest.raises(UserError, match=r"pip install 'ibllm\[hub\]'"):
            call()


def test_a_search_reads_only_what_is_new(m: Trained, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("IBLLM_CACHE", str(tmp_path / "cache"))
    place, read = tmp_path / "pictures", list[str]()
    (place / "deep").mkdir(parents=True)
    for number, picture in enumerate(m.generate([CIRCLE, RING], n=2)):
        picture[0].save(place / f"{number}.png")
        picture[1].save(place / "deep" / f"{number}.png")
    (place / "broken.png").write_bytes(b"no")
    real = Trained.pixels
    monkeypatch.setattr(Trained, "pixels", lambda self, images: read.append(str(images)) or real(self, images))
    (told,) = notices(lambda: m.search(place, CIRCLE))
    assert told == f"1 of 5 left out: {place / 'broken.png'} is no image of a kind that Pillow reads"
    assert len(read) == 5
    read.clear()
    found = m.search(place, [CIRCLE, RING], k=3)
    assert read == [str(place / "broken.png")], "it might have been mended"
    assert [len(row) for row in found] == [3, 3] and [one.agreement for one in found[0]] == sorted(
        (one.agreement for one in found[0]), reverse=True
    )
    plain = m.search([place / "0.png", place / "1.png", place / "deep" / "0.png", place / "deep" / "1.png"], CIRCLE, k=3)
    assert [(one.image, one.agreement) for one in plain] == [(one.image, pytest.approx(one.agreement, abs=1e-5)) for one in found[0]]
    read.clear()
    os.utime(place / "0.png", (0, 0))  # touched, the same content
    (place / "deep" / "0.png").rename(place / "moved.png")
    Image.new("RGB", (32, 32)).save(place / "1.png")
    (place / "broken.png").unlink()
    assert {one.image for one in m.search(place, CIRCLE)} == set(place.rglob("*.png"))
    assert read == [str(place / "1.png")]
    for file in (tmp_path / "cache" / "search").iterdir():
        file.write_bytes(b"PK\x03\x04 damaged")
    assert len(m.search(place, CIRCLE)) == 4


def test_a_search_that_cannot_keep_its_index_says_so(m: Trained, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").write_text("", encoding="utf-8")
    m.space  # noqa: B018
    monkeypatch.setenv("IBLLM_CACHE", str(tmp_path / "file" / "below"))
    m.generate(CIRCLE).save(tmp_path / "a.png")
    (told,) = notices(lambda: m.search(tmp_path, CIRCLE))
    assert "the index cannot be kept in" in told and "IBLLM_CACHE names another place" in told


def test_nothing_to_search_is_refused(m: Trained, tmp_path: Path) -> None:
    (tmp_path / "a.png").write_bytes(b"no")
    with pytest.raises(UserError, match="none of the 1 images"):
        m.search(tmp_path, CIRCLE)
    with pytest.raises(UserError, match="is no folder"):
        m.search(tmp_path / "none", CIRCLE)
    with pytest.raises(UserError, match="k = 0"):
        m.search(tmp_path, CIRCLE, k=0)
    assert m.search([], CIRCLE) == []
    assert search.ranked(np.eye(2, dtype=np.float32), np.eye(2, dtype=np.float32), 1) == [[(0, 1.0)], [(1, 1.0)]]


def test_a_folder_with_another_model_or_with_files_besides_is_left_as_it_is(m: Trained, tmp_path: Path):
    other = tmp_path / "llama"
    other.mkdir()
    (other / "config.json").write_text('{"model_type": "llama"}', encoding="utf-8")
    mixed = m.save_pretrained(tmp_path / "mixed")
    (mixed / "notes.txt").write_text("mine", encoding="utf-8")
    for folder in (other, mixed):
        before = sorted(path.name for path in folder.iterdir())
        with pytest.raises(UserError, match="left as it is"):
            m.save_pretrained(folder)
        assert sorted(path.name for path in folder.iterdir()) == before
