"""What an opened model says of what it is given and of what it writes: capitals, pictures that are cropped, texts that may not be longer, wrong arguments."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from ibllm_tokenizers.config import WordConfig
from ibllm_tokenizers.word import WordTokenizer
from PIL import Image

import ibllm
from ibllm import use
from ibllm.answers import alike
from ibllm.blocks.ends import counted_ends
from ibllm.cropping import outside
from ibllm.lower_case import has_capitals, in_lower_case
from ibllm.plugin import Context, Latent, TextDecoder
from ibllm.trained import Trained
from ibllm_core.errors import Notice, UserError

Shell = Callable[..., Any]
CIRCLE = "a small red circle at the top left"
ENDS = "may not be longer"


@pytest.fixture(scope="module")
def m(run: Path) -> Trained:
    return ibllm.open(run)


def said(call: Callable[[], Any]) -> list[str]:
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        call()
    return [str(warning.message) for warning in caught if issubclass(warning.category, Notice)]


def words(*texts: str, lowercase: bool = False) -> WordTokenizer:
    tokenizer = WordTokenizer(WordConfig(size=32, lowercase=lowercase), Context(seed=0))
    tokenizer.train(texts)
    return tokenizer


def test_capitals_are_read_in_lower_case_where_the_training_texts_had_none(m: Trained) -> None:
    shouted = "A small RED circle at the top Left"
    told = said(lambda: m.generate(shouted))
    assert told == ["3 words are known in lower case only, and read so: A, Left, RED"]
    assert (m.generate(shouted, output="numpy") == m.generate(CIRCLE, output="numpy")).all()
    assert (m.encode_text([shouted, CIRCLE])[0] == m.encode_text(CIRCLE)).all()
    assert m.score(np.zeros((32, 32, 3), np.uint8), shouted) == m.score(np.zeros((32, 32, 3), np.uint8), CIRCLE)
    assert m.roundtrip(shouted).text == CIRCLE
    assert m.as_read([shouted, CIRCLE]) == [CIRCLE, CIRCLE]
    assert said(lambda: m.generate("A small red Zebra")) == [
        "1 word is known in lower case only, and read so: A",
        "1 word was never seen in training, so nothing can be known of it: zebra",
    ]
    assert said(lambda: m.generate(CIRCLE)) == []


def test_a_vocabulary_with_capitals_is_read_as_it_is_and_says_what_it_knows_written_small() -> None:
    lower, both, small = words("a red ring"), words("a red Ring"), words("A RED ring", lowercase=True)
    assert [has_capitals(one) for one in (lower, both, small)] == [False, True, False]
    assert in_lower_case(["A Red ring", "a ring", "Zebra"], lower) == (["a red ring", "a ring", "Zebra"], ["A", "Red"])
    assert in_lower_case(["A Red Ring"], both) == (["A Red Ring"], [])
    assert in_lower_case(["A Red Ring"], small) == (["A Red Ring"], []), "it reads in lower case itself"
    model: Any = SimpleNamespace(part=lambda name: None, tokenizers={"text_encoder": both})
    texts, told = use.as_read(model, ["A Red Zebra Ring"])
    assert texts == ["A Red Zebra Ring"]
    assert told == [
        "3 words were never seen in training, so nothing can be known of them: A, Red, Zebra; written small these are known: A → a, Red → red"
    ]


def test_the_shell_reads_capitals_so_too(shell: Shell, run: Path, tmp_path: Path) -> None:
    fold = "1 word is known in lower case only, and read so: RED"
    for command in (["generate"], ["walk", CIRCLE], ["roundtrip"]):
        given = shell(*command[:1], run, "a small RED circle at the top left", *command[1:], "-o", f"{command[0]}.png")
        assert given.code == 0 and [notice for notice in given.notices if "lower case" in notice] == [fold]
    shell("generate", run, CIRCLE, "-o", "small.png")
    assert (tmp_path / "small.png").read_bytes() == (tmp_path / "generate.png").read_bytes()


@pytest.mark.parametrize(
    ("size", "share"),
    [((32, 32), 0.0), ((64, 64), 0.0), ((64, 32), 0.5), ((32, 64), 0.5), ((300, 100), 2 / 3), ((40, 32), 0.2), ((1, 1), 0.0)],
)
def test_how_much_of_a_picture_is_outside(size: tuple[int, int], share: float) -> None:
    assert outside(*size, (32, 32), "crop") == pytest.approx(share)
    assert outside(*size, (32, 32), "pad") == 0
    assert outside(2 * size[0], size[1], (64, 32), "crop") == pytest.approx(share), "a canvas that is no square"


def test_a_picture_that_is_cropped_much_is_told(m: Trained, shell: Shell, run: Path, tmp_path: Path) -> None:
    why = "the model reads the middle, as its data were cropped"
    wide = Image.new("RGB", (64, 32), (200, 30, 40))
    half = f"50% of the picture lies outside what is read: {why}"
    for call in (m.caption, m.encode_image, lambda image: m.score(image, CIRCLE), lambda image: m.captions(image, 1)):
        assert [notice for notice in said(lambda call=call: call(wide)) if "outside" in notice] == [half]
    assert half in said(lambda: m.caption(np.asarray(wide)))
    turned = Image.new("RGB", (32, 64))
    turned.getexif()[0x0112] = 6
    turned.save(tmp_path / "turned.jpg", exif=turned.getexif())
    assert half in said(lambda: m.caption(tmp_path / "turned.jpg"))
    assert not [notice for notice in said(lambda: m.caption(wide.crop((0, 0, 40, 32)))) if "outside" in notice]
    for number, size in enumerate([(64, 32), (32, 32), (32, 128)]):
        Image.new("RGB", size).save(tmp_path / f"{number}.png")
    several = f"of 2 of 3 pictures more than 25% lies outside what is read, of one (2.png) 75%: {why}"
    given = shell("caption", run, "0.png", "1.png", "2.png")
    assert [notice for notice in given.notices if "outside" in notice] == [several]


def test_a_text_that_may_not_be_longer_is_told_and_counted(m: Trained, shell: Shell, run: Path, tmp_path: Path) -> None:
    decoder: Any = m.model.part("text_decoder")
    images = np.stack([m.pixels(Image.new("RGB", (32, 32), (k, 0, 0)))[0] for k in (0, 90, 200)])
    before = decoder.max_length
    try:
        decoder.max_length = 3
        assert [len(text.split()) for text in m.caption(images)] == [1, 1, 1]
        assert [notice for notice in said(lambda: m.caption(images)) if ENDS in notice] == [
            "3 of 3 texts that were written end because they may not be longer than max_length = 3 tokens"
        ]
        one = "the text that was written ends because it may not be longer than max_length = 3 tokens"
        assert one in said(lambda: m.caption(images[0])) and one in said(lambda: m.roundtrip(CIRCLE))
        assert one in said(lambda: m.captions(images[0], 1, temperature=1.0))
    finally:
        decoder.max_length = before


class Scripted(TextDecoder):
    """Writes these tokens, a row each, whatever it sees."""

    vocabulary, max_length = 8, 5

    def __init__(self, *rows: list[int]) -> None:
        super().__init__()
        self.rows = rows

    def logits(self, ids: Any, mask: Any, z: Any) -> Any:
        raise NotImplementedError

    def begin(self, z: Latent) -> Any:
        return (torch.arange(len(z)), torch.zeros(len(z), dtype=torch.long))

    def step(self, ids: Any, state: Any) -> Any:
        row, place = state
        chosen = torch.tensor([self.rows[r][min(p, 4)] for r, p in zip(row.tolist(), place.tolist(), strict=True)])
        return torch.nn.functional.one_hot(chosen, 8) * 20.0, (row, place + 1)


def test_only_those_count_as_cut_that_would_have_gone_on() -> None:
    decoder = Scripted([5, 2, 5, 5, 5], [5, 6, 5, 2, 5], [5, 6, 5, 6, 5])
    z = Latent(torch.zeros(3, 1, 1), torch.ones(3, 1, dtype=torch.bool), torch.zeros(3, 1))
    with counted_ends() as ends:
        tokens = decoder.sample(z)
    assert tokens.ids.tolist() == [[1, 5, 2, 0, 0], [1, 5, 6, 5, 2], [1, 5, 6, 5, 2]]
    assert (ends.cut, ends.most) == ([False, False, True], 5)
    assert ends.said() == "1 of 3 texts that were written end because they may not be longer than max_length = 5 tokens"
    with counted_ends() as ends:
        decoder.sample(z, beams=2)
    assert (len(ends.cut), ends.cut[0]) == (3, False)
    decoder.sample(z)
    assert len(ends.cut) == 3, "counted where somebody asks, and nowhere else"


def test_drawings_that_are_equal_to_the_last_bit_are_told() -> None:
    drawn = np.zeros((2, 3, 4, 4, 3), np.uint8)
    assert alike(drawn) == "all 3 drawings of a text are equal: this model draws the same picture for every seed"
    assert alike(drawn[:, :1]) == alike(drawn[:0]) == ""
    drawn[1, 2, 0, 0, 0] = 1
    assert alike(drawn) == ""


IMAGE = np.zeros((32, 32, 3), np.uint8)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda m: m.caption(IMAGE, temperature=-1), "temperature = -1: expected a number, at least 0"),
        (lambda m: m.caption(IMAGE, temperature="hot"), "temperature = 'hot': expected a number, at least 0"),
        (lambda m: m.caption(IMAGE, temperature=float("nan")), "temperature = nan: expected a number"),
        (lambda m: m.caption(IMAGE, top_p=2), "top_p = 2: expected a number, more than 0 and at most 1"),
        (lambda m: m.caption(IMAGE, top_p=0), "top_p = 0: expected a number, more than 0 and at most 1"),
        (lambda m: m.caption(IMAGE, beams=0), "beams = 0: expected at least 1"),
        (lambda m: m.caption(IMAGE, beams=1.5), "beams = 1.5: expected a whole number, at least 1"),
        (lambda m: m.caption(IMAGE, length_exponent="x"), "length_exponent = 'x': expected a number"),
        (lambda m: m.caption(IMAGE, seed=1.5), "seed = 1.5: expected a whole number, at least 0"),
        (lambda m: m.caption(None), "the image is a NoneType: expected a path"),
        (lambda m: m.captions(IMAGE, "2"), "n = '2': expected a whole number, at least 1"),
        (lambda m: m.captions(IMAGE, 2, top_p=2), "top_p = 2: expected"),
        (lambda m: m.generate(CIRCLE, n="2"), "n = '2': expected a whole number, at least 1"),
        (lambda m: m.generate(CIRCLE, n=True), "n = True: expected a whole number, at least 1"),
        (lambda m: m.generate(CIRCLE, seed=1.5), "seed = 1.5: expected a whole number, at least 0"),
        (lambda m: m.generate(CIRCLE, seed=-1), "seed = -1: expected at least 0"),
        (lambda m: m.generate(CIRCLE, seed="3"), "seed = '3': expected a whole number, at least 0"),
        (lambda m: m.generate(CIRCLE, seed=None), "seed = None: expected a whole number, at least 0"),
        (lambda m: m.generate([CIRCLE] * 2, seed=[1, -2]), "seed 2 of the list = -2: expected at least 0"),
        (lambda m: m.generate(None), "the text is None: expected a str, or a list of them"),
        (lambda m: m.generate(5), "the text is an int: expected a str, or a list of them"),
        (lambda m: m.generate(b"a red circle"), r"the text is a bytes: expected a str, or a list of them; .decode\(\) makes one of bytes"),
        (lambda m: m.generate({"text": "a"}), "the text is a dict: expected a str, or a list of them"),
        (lambda m: m.encode_text(None), "the text is None"),
        (lambda m: m.answer(IMAGE, None), "was trained on no questions|the text is None"),
        (lambda m: m.score(IMAGE, 5), "the text is an int"),
        (lambda m: m.score(IMAGE, CIRCLE, draws="16"), "draws = '16': expected a whole number, at least 1"),
        (lambda m: m.score(IMAGE, CIRCLE, seed=-1), "seed = -1: expected at least 0"),
        (lambda m: m.search([IMAGE], CIRCLE, k="3"), "k = '3': expected a whole number, at least 1"),
        (lambda m: m.roundtrip(CIRCLE, seed=0.5), "seed = 0.5: expected a whole number"),
        (lambda m: m.to(5), "device is an int: expected a str, for example 'cpu'"),
        (lambda m: m.save_pretrained(None), "folder is None: expected a path, a str or a Path"),
        (lambda m: ibllm.open(None), "what is opened is None: expected a path, a str or a Path"),
        (lambda m: ibllm.open(m.path, device=3), "device is an int: expected a str, for example 'cpu'"),
        (lambda m: ibllm.from_pretrained(None), "name is None: expected a path"),
        (lambda m: ibllm.recipe(None), "the recipe is None: expected a path"),
        (lambda m: ibllm.recipe("r.toml", set="seed=3"), r"set = 'seed=3': expected a list of overrides: set=\['seed=3'\]"),
        (lambda m: ibllm.recipe("r.toml", set=[3]), "override 1 of 1 is an int: expected a str, for example 'seed=3'"),
        (lambda m: ibllm.recipe("r.toml", set=None), "set is None: expected a list of overrides"),
        (lambda m: ibllm.recipe("r.toml", seed="3"), "seed = '3': expected a whole number, at least 0"),
    ],
)
def test_what_is_wrongly_given_is_refused_with_what_was_expected(m: Trained, call: Callable[[Trained], Any], message: str) -> None:
    with pytest.raises(UserError, match=message):
        call(m)


def test_numbers_of_numpy_are_numbers(m: Trained) -> None:
    assert m.generate(CIRCLE, n=np.int64(1), seed=np.uint8(3)).size == (32, 32)
    assert m.generate([CIRCLE] * 2, seed=np.arange(2), output="numpy")[0].shape == (32, 32, 3)
    assert m.caption(IMAGE, temperature=np.float32(0), top_p=np.float64(1), beams=np.int32(2)) == m.caption(IMAGE, beams=2)


@pytest.mark.parametrize(
    ("given", "message"),
    [
        (["generate", "RUN", "", "-o", "a.png"], "the text is empty: expected words"),
        (["generate", "RUN", CIRCLE, " ", CIRCLE, "-o", "a.png"], "text 2 of 3 is empty: expected words"),
        (["walk", "RUN", CIRCLE, "", "-o", "a.png"], "text 2 of 2 is empty: expected words"),
        (["roundtrip", "RUN", "\u200b"], "the text or image is empty: expected words"),
        (["search", "RUN", ".", CIRCLE, ""], "text 2 of 2 is empty: expected words"),
        (["score", "RUN", "a.png", ""], "text 1 of 1, that of a.png, is empty: expected words"),
        (["ask", "RUN", "a.png", ""], "the question is empty: expected words"),
        (["score", "RUN", "a red zebra", "a.png"], "there is no image a red zebra; a.png is a file: give the image first, then its text"),
        (["ask", "RUN", "a.png", "how many whales?"], "was trained on no questions"),
    ],
)
def test_what_the_shell_refuses_is_said_alone(shell: Shell, run: Path, tmp_path: Path, given: list[str], message: str) -> None:
    Image.new("RGB", (32, 32)).save(tmp_path / "a.png")
    refused = shell(*(run if word == "RUN" else word for word in given))
    assert (refused.code, refused.out, refused.notices) == (2, "", []), "no warning of what no longer matters"
    assert message in refused.err


def test_empty_lines_of_a_file_are_counted_and_long_texts_are_said_short(shell: Shell, run: Path, tmp_path: Path) -> None:
    long = "a red circle " * 30
    (tmp_path / "texts.txt").write_text(f"{CIRCLE}\n\n  \n{long}\n\n", encoding="utf-8")
    given = shell("generate", run, "--from", "texts.txt", "-o", "drawn")
    assert "texts.txt: 2 empty lines are no text and passed over, the first is line 2" in given.notices
    first, second = (line.split("\t")[1] for line in given.out.splitlines())
    assert first == CIRCLE and second == f"{long[:200]}…"
    whole = shell("generate", run, "--from", "texts.txt", "-o", "again", "--json")
    assert whole.json["items"][1]["text"] == long.strip()


def test_the_counts_of_a_folder_add_up(shell: Shell, run: Path, tmp_path: Path) -> None:
    folder = tmp_path / "mine"
    (folder / "deep").mkdir(parents=True)
    for name in ("a.png", "b.png", "deep/c.png"):
        Image.new("RGB", (32, 32)).save(folder / name)
    (folder / "broken.png").write_bytes(b"no image")
    (folder / "notes.txt").write_text("none")
    (folder / "linked").symlink_to(folder / "deep", target_is_directory=True)
    given = shell("caption", run, "mine", "mine/a.png", "--json")
    assert len(given.json["items"]) == 3
    assert "mine: 4 images; passed over: 1 linked folders, 1 that are no images" in given.notices
    assert "1 image is given more than once, and taken once" in given.notices
    assert "3 of 4 images were read; 1 could not be read and are passed over" in given.notices
