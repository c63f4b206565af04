"""An opened model from Python: what goes in, what comes out, and that neither company nor threads nor devices change it."""

from __future__ import annotations

import shutil
import threading
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

import ibllm
from ibllm import use
from ibllm.finished import Run
from ibllm.trained import Trained
from ibllm_core.errors import Notice, UserError
from ibllm_core.interfaces.batch import to_images, to_tokens

from .conftest import FLOW

CIRCLE, RING = "a small red circle at the top left", "a large blue ring at the bottom right"


@pytest.fixture(scope="module")
def m(run: Path) -> Trained:
    return ibllm.open(run)


@pytest.fixture(scope="module")
def flow(trained: Callable[..., Path]) -> Trained:
    return ibllm.open(trained(FLOW))


def said(call: Callable[[], Any]) -> list[str]:
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        call()
    return [str(warning.message) for warning in caught if issubclass(warning.category, Notice)]


def test_a_run_its_model_folder_and_nothing_else_are_opened(run: Path, m: Trained, tmp_path: Path) -> None:
    assert isinstance(m, Run) and m.results["test/items"] == 2
    shutil.copytree(run / "model", tmp_path / "alone")
    alone = ibllm.open(tmp_path / "alone")
    assert not isinstance(alone, Run)
    assert (alone.generate(CIRCLE, output="numpy") == m.generate(CIRCLE, output="numpy")).all()
    assert alone.fit == m.fit
    with pytest.raises(UserError, match="tells no results"):
        alone.results  # noqa: B018
    for path, words in ((tmp_path / "nothing", "there is no"), (tmp_path, "no run directory and no model folder")):
        with pytest.raises(UserError, match=words):
            ibllm.open(path)


def test_one_in_one_out_a_list_in_a_list_out(m: Trained) -> None:
    picture = m.generate(CIRCLE)
    assert isinstance(picture, Image.Image) and picture.size == (32, 32)
    assert [type(one) for one in m.generate([CIRCLE])] == [Image.Image]
    assert len(m.generate(CIRCLE, n=2)) == 2 and [len(row) for row in m.generate([CIRCLE, RING], n=2)] == [2, 2]
    assert m.generate(CIRCLE, output="numpy").shape == (32, 32, 3) and m.generate([]) == []
    assert isinstance(m.caption(picture), str) and len(m.caption([picture, picture])) == 2 and m.caption([]) == []
    assert m.encode_text(CIRCLE).shape == (16,) and m.encode_text([CIRCLE, RING]).shape == (2, 16) and m.encode_text([]).shape == (0, 16)
    assert m.encode_image(picture).shape == (16,) and m.encode_image(np.stack([picture] * 3)).shape == (3, 16)
    assert m.pixels(picture).shape == (1, 32, 32, 3)
    assert m.roundtrip([]) == [] and m.score([], []) == []


def test_who_learned_no_questions_is_not_asked(m: Trained) -> None:
    for call in (lambda: m.ask(np.zeros((32, 32, 3), np.uint8)), lambda: m.answer(np.zeros((32, 32, 3), np.uint8), "what is this?")):
        with pytest.raises(UserError, match="was trained on no questions"):
            call()


def test_pictures_may_be_anything(m: Trained, tmp_path: Path) -> None:
    picture = m.generate(CIRCLE)
    picture.save(tmp_path / "a.png")
    array = np.asarray(picture)
    tensor = torch.from_numpy(array.copy()).permute(2, 0, 1)
    with (tmp_path / "a.png").open("rb") as file:
        given = [picture, array, tensor, tensor / 255, tmp_path / "a.png", str(tmp_path / "a.png"), file, (tmp_path / "a.png").read_bytes()]
        points = m.encode_image(given)
    assert np.abs(points - points[0]).max() < 1e-5
    assert m.caption(picture.resize((640, 480)))  # any size


def test_nothing_depends_on_what_else_is_in_the_list(m: Trained, flow: Trained) -> None:
    for model in (m, flow):
        together = model.generate([RING, CIRCLE, RING], n=2, output="numpy")
        alone = model.generate(CIRCLE, n=2, output="numpy")
        assert np.abs(np.array(together[1]).astype(int) - np.array(alone)).max() <= 1
        assert (np.array(alone[0]) != np.array(alone[1])).any(), "each has noise of its own"
        assert (np.array(together[0]) == np.array(together[2])).all()
        assert (model.generate(CIRCLE, seed=[3], output="numpy") == model.generate(CIRCLE, seed=3, output="numpy")).all()
        assert (model.generate(CIRCLE, seed=3, output="numpy") != alone[0]).any()
    pictures = m.generate([CIRCLE, RING], output="numpy")
    drawn = m.caption(pictures, temperature=1.0, seed=4)
    assert drawn == [m.caption(picture, temperature=1.0, seed=4) for picture in pictures]
    assert drawn != m.caption(pictures, temperature=1.0, seed=5)


def test_threads_take_turns(flow: Trained) -> None:
    def work(number: int) -> tuple[bytes, list[str]]:
        steps = 1 + number % 3
        drawn = flow.generate([CIRCLE, RING], seed=number, steps=steps, output="numpy")
        return np.array(drawn).tobytes(), flow.caption(drawn, temperature=1.0, seed=number)

    serial, found = [work(number) for number in range(6)], dict[int, Any]()
    threads = [threading.Thread(target=lambda n=number: found.update({n: work(n)})) for number in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert [found[number] for number in range(6)] == serial


def test_threads_open_one_model(run: Path) -> None:
    fresh, found = ibllm.open(run), []
    threads = [threading.Thread(target=lambda: found.append(fresh.model)) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len({id(model) for model in found}) == 1


def test_what_the_model_cannot_know_is_told(m: Trained) -> None:
    (unknown,) = said(lambda: m.generate("a small zebra, 7!"))
    assert unknown == "2 words were never seen in training, so nothing can be known of them: 7, zebra"
    (cut,) = said(lambda: m.encode_text(["a red circle " * 20, CIRCLE]))
    assert cut == f"a text of 62 tokens is cut to 24, the most that the model reads: '{('a red circle ' * 20)[:59]}…'"
    assert said(lambda: m.generate(f"  {CIRCLE}\n")) == [] and m.remarks(CIRCLE) == []
    assert (m.generate(f"  {CIRCLE}\n", output="numpy") == m.generate(CIRCLE, output="numpy")).all()


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "the text is empty"),
        (" \u200b\t", "the text is empty"),
        ("a smile \ud83d", "half a character at place 9"),
        ([CIRCLE, ""], "text 2 of 2 is empty"),
        ([CIRCLE, 3], "text 2 of 2 is a int"),
        ([CIRCLE, None], "text 2 of 2 is a NoneType"),
    ],
)
def test_what_is_no_text_is_refused(m: Trained, text: Any, words: str) -> None:
    for use_it in (m.generate, m.encode_text, m.remarks, lambda text: m.score(np.zeros((32, 32, 3), np.uint8), text)):
        with pytest.raises(UserError, match=words):
            use_it(text)


@pytest.mark.parametrize(
    ("how", "words"),
    [
        ({"guidance": 2.0}, "guidance: image_decoder.cross_attention has no such option that may be changed in use; it has none"),
        ({"n": 0}, "n = 0: expected at least 1"),
        ({"n": 1.5}, "n = 1.5"),
        ({"best_of": -1}, "best_of = -1"),
        ({"best_of": 2, "by": "beauty"}, "by = 'beauty': expected 'reading' or 'agreement'"),
        ({"output": "jpeg"}, "output = 'jpeg'"),
        ({"seed": [1, 2]}, "2 seeds, 1 items"),
    ],
)
def test_wrong_ways_to_draw_are_refused(m: Trained, how: dict[str, Any], words: str) -> None:
    with pytest.raises(UserError, match=words):
        m.generate([CIRCLE], **how)


def test_a_decoders_options_are_changed_for_one_call(flow: Trained) -> None:
    assert flow.live_options() == {"guidance": 1.0, "solver": "euler", "steps": 8}
    before = flow.generate(CIRCLE, output="numpy")
    assert (flow.generate(CIRCLE, steps=1, guidance=3.0, output="numpy") != before).any()
    assert (flow.generate(CIRCLE, solver="heun", output="numpy") != before).any()
    assert (flow.generate(CIRCLE, output="numpy") == before).all()
    for how, words in (
        ({"temperature": 2.0}, "temperature: .*flow has no such option.*there are: guidance, solver, steps"),
        ({"steps": 0}, "steps = 0: expected >= 1"),
        ({"solver": "rk4"}, "solver = 'rk4'"),
        ({"depth": 3}, "depth: .*no such option"),
    ):
        with pytest.raises(UserError, match=words):
            flow.generate(CIRCLE, **how)  # type: ignore[arg-type]


def test_the_best_captions_have_their_exact_likelihoods(m: Trained) -> None:
    picture = m.generate(CIRCLE)
    found = m.captions(picture, 4, beams=6)
    assert len(found) == 4 and len({one.text for one in found}) == 4
    assert [one.log_p for one in found] == sorted((one.log_p for one in found), reverse=True)
    plain = [one for one in found if "<unk>" not in one.text]  # such a text is none that can be read again
    wanted = use.text_log_p(m.model, np.repeat(m.pixels(picture), len(plain), 0), [one.text for one in plain])
    assert plain
    assert np.allclose([one.log_p for one in plain], wanted, atol=1e-3)
    assert m.captions(picture, 1)[0].log_p <= found[0].log_p + 1e-6
    drawn = m.captions([picture, picture], 3, temperature=1.0)
    assert [len(row) for row in drawn] == [len({one.text for one in row}) for row in drawn] and drawn[0] == drawn[1]
    with pytest.raises(UserError, match="n = 0"):
        m.captions(picture, 0)


def test_scores_are_the_parts_own_likelihoods(m: Trained, flow: Trained) -> None:
    picture = m.generate(CIRCLE, output="numpy")
    score = m.score(picture, CIRCLE)
    model = m.model
    with model.inference():
        z = model.part("image_encoder")(to_images(picture[None]))
        wanted = -float(model.part("text_decoder").nll(to_tokens(model.tokenizers["text_decoder"], [CIRCLE]), z))
    assert score.text_given_image == pytest.approx(wanted, abs=1e-4)
    assert (score.image_given_text, score.image_kind, score.image_of) == (None, None, None)
    assert -1 <= score.agreement <= 1
    assert [one.text_given_image for one in m.score([picture] * 2, CIRCLE)] == pytest.approx([wanted] * 2, abs=1e-4)
    assert len(m.score(picture, [CIRCLE, RING])) == 2
    with pytest.raises(UserError, match="2 images, 3 texts: expected as many"):
        m.score([picture] * 2, [CIRCLE] * 3)
    bound = flow.score(picture, CIRCLE, draws=2)
    assert bound.image_kind == "bound" and bound.image_of == "images" and bound == flow.score([picture], [CIRCLE], draws=2)[0]


def test_the_best_of_several_is_the_one_that_reads_best(m: Trained) -> None:
    several = m.generate(CIRCLE, n=4, output="numpy")
    for by in ("reading", "agreement"):
        best = m.generate(CIRCLE, best_of=4, n=2, by=by, output="numpy")
        scores = [getattr(m.score(one, CIRCLE), {"reading": "text_given_image", "agreement": by}[by]) for one in (*best, *several)]
        assert scores[:2] == pytest.approx(sorted(scores[2:], reverse=True)[:2], abs=1e-4)


def test_a_round_trip_has_every_leg(m: Trained, tmp_path: Path) -> None:
    trip = m.roundtrip(CIRCLE)
    assert [what for what, _ in trip.legs()] == ["text", "image", "text"] and trip.given == "text" and trip.text == CIRCLE
    assert trip.back == m.caption(trip.image)
    assert trip.log_p <= m.captions(trip.image, 8)[0].log_p + 1e-4
    assert trip.returned == (trip.back == CIRCLE)
    trip.image.save(tmp_path / "a.png")
    back = m.roundtrip(str(tmp_path / "a.png"))
    assert [what for what, _ in back.legs()] == ["image", "text", "image"] and back.text == trip.back and back.returned is None
    with pytest.raises(UserError, match="texts and images in one list"):
        m.roundtrip([CIRCLE, trip.image])
    with pytest.raises(UserError, match="there is no image nowhere"):
        m.roundtrip("nowhere.png")


def test_it_goes_to_devices_that_are_here(run: Path) -> None:
    opened = ibllm.open(run, device="cpu")
    assert opened.to("auto") is opened and opened.model.device.type in ("cpu", "cuda")
    with pytest.raises(UserError, match="there is no xpu"):
        opened.to("xpu")
    assert opened.generate(CIRCLE)
