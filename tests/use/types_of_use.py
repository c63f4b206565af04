"""What type checkers say of an opened model's methods. Never run: mypy reads it with the code (`files` in pyproject.toml)."""

from __future__ import annotations

from typing import assert_type

import numpy as np
import numpy.typing as npt
from PIL.Image import Image

from ibllm.answers import Found, RoundTrip, Score, Written
from ibllm.trained import Trained


def one_item_in_gives_one_out(m: Trained, image: Image) -> None:
    assert_type(m.generate("a circle"), Image)
    assert_type(m.generate("a circle", seed=3, guidance=2.0), Image)
    assert_type(m.generate("a circle", output="numpy"), npt.NDArray[np.uint8])
    assert_type(m.caption("a.png", beams=3), str)
    assert_type(m.caption(image), str)
    assert_type(m.ask(image), str)
    assert_type(m.answer(image, "which colour?"), str)
    assert_type(m.captions(image, 3), list[Written])
    assert_type(m.score(image, "a circle"), Score)
    assert_type(m.search("folder", "a circle"), list[Found])
    assert_type(m.roundtrip("a circle"), RoundTrip)


def a_list_gives_a_list(m: Trained, images: list[Image], texts: list[str]) -> None:
    assert_type(m.generate(texts), list[Image])
    assert_type(m.caption(images), list[str])
    assert_type(m.ask(images), list[str])
    assert_type(m.answer(images, "which colour?"), list[str])
    assert_type(m.captions(images, 3), list[list[Written]])
    assert_type(m.score(images, texts), list[Score])
    assert_type(m.search("folder", texts), list[list[Found]])
    assert_type(m.roundtrip(texts), list[RoundTrip])


def an_array_may_be_either(m: Trained, array: npt.NDArray[np.uint8]) -> None:
    assert_type(m.caption(array), str | list[str])


def a_word_that_is_no_option_is_found(m: Trained) -> None:
    m.caption("a.png", beam=3)  # type: ignore[call-overload]
