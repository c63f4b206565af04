"""Pictures of any kind as a model reads them."""

from __future__ import annotations

import io
import re
import struct
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from ibllm.pictures import Fit, fitted, in_folder, listed, opened, pixels
from ibllm_core.errors import UserError

SHAPE, PLAIN = (3, 32, 32), Fit()
RAMP = np.tile(np.linspace(0, 255, 32).round().astype(np.uint8)[None, :, None], (32, 1, 3))
#: (h w 3) with a mark that says which way up it is.
MARKED = np.full((32, 32, 3), 255, np.uint8)
MARKED[:8, :8] = (200, 0, 0)


def one(image: Any, fit: Fit = PLAIN, shape: tuple[int, int, int] = SHAPE) -> np.ndarray:
    return pixels([image], shape, fit)[0]


def near(found: np.ndarray, wanted: np.ndarray, by: int = 1) -> None:
    assert np.abs(found.astype(int) - wanted.astype(int)).max() <= by


def test_a_picture_of_the_models_size_is_read_as_it_is() -> None:
    for given in (
        RAMP,
        torch.from_numpy(RAMP).permute(2, 0, 1),
        Image.fromarray(RAMP),
        RAMP / 255,
        torch.from_numpy(RAMP / 255).permute(2, 0, 1),
    ):
        assert (one(given) == RAMP).all()
    assert (one(RAMP[..., 0]) == RAMP).all(), "grey"
    assert (one(RAMP[..., 0] > 100) == np.where(RAMP > 100, 255, 0)).all()
    assert (one(RAMP.astype(np.int64)) == RAMP).all()


@pytest.mark.parametrize(
    "mode", ["RGB", "RGBA", "L", "LA", "P", "1", "CMYK", "YCbCr", "HSV", "I", "I;16", "I;16B", "F", "RGBX", "PA", "La", "RGBa"]
)
@pytest.mark.parametrize("size", [(32, 32), (7, 90), (400, 20), (1, 1)])
def test_every_mode_and_size_of_pillow(mode: str, size: tuple[int, int]) -> None:
    for fit in (PLAIN, Fit("pad", (10, 20, 30))):
        assert one(Image.new(mode, size), fit).shape == (32, 32, 3)
        assert one(Image.new(mode, size), fit, (1, 20, 24)).shape == (20, 24, 1)


def test_tones_of_16_bits_are_kept(tmp_path: Path) -> None:
    grey = RAMP[..., 0].astype(np.uint16) * 257
    for suffix in ("png", "tif"):
        Image.fromarray(grey).save(tmp_path / f"ramp.{suffix}")
        near(one(tmp_path / f"ramp.{suffix}"), RAMP)
    near(one(grey), RAMP)
    near(one(Image.fromarray((RAMP[..., 0] / 255).astype(np.float32))), RAMP)


def test_what_may_be_seen_through_lies_on_the_datas_background(tmp_path: Path) -> None:
    clear = Image.new("RGBA", (32, 32), (0, 0, 255, 0))
    assert (one(clear) == 255).all()
    assert (one(clear, Fit("crop", (1, 2, 3))) == (1, 2, 3)).all()
    clear.convert("P").save(tmp_path / "palette.png", transparency=clear.convert("P").getpixel((0, 0)))
    assert (one(tmp_path / "palette.png") == 255).all()
    Image.new("L", (32, 32), 7).save(tmp_path / "grey.png", transparency=7)
    assert (one(tmp_path / "grey.png") == 255).all()


@pytest.mark.parametrize("orientation", range(2, 9))
@pytest.mark.parametrize("suffix", ["jpg", "png", "webp", "tif"])
def test_photographs_are_turned_upright(tmp_path: Path, orientation: int, suffix: str) -> None:
    turns = {2: "FLIP_LEFT_RIGHT", 3: "ROTATE_180", 4: "FLIP_TOP_BOTTOM", 5: "TRANSPOSE", 6: "ROTATE_90", 7: "TRANSVERSE", 8: "ROTATE_270"}
    lying = Image.fromarray(MARKED).transpose(getattr(Image.Transpose, turns[orientation]))
    exif = Image.Exif()
    exif[0x0112] = orientation
    lying.save(tmp_path / f"a.{suffix}", exif=exif, **({"quality": 100} if suffix in ("jpg", "webp") else {}))
    near(one(tmp_path / f"a.{suffix}")[2:6, 2:6], MARKED[2:6, 2:6], 40)
    near(one(tmp_path / f"a.{suffix}")[20:, 20:], MARKED[20:, 20:], 40)


def test_the_middle_is_taken_or_all_of_it_with_bars() -> None:
    wide = np.concatenate([np.zeros((32, 16, 3), np.uint8), MARKED, np.zeros((32, 16, 3), np.uint8)], 1)
    assert (one(wide) == MARKED).all()
    padded = one(wide, Fit("pad", (9, 9, 9)))
    assert (padded[:7] == 9).all() and (padded[-7:] == 9).all() and not (padded[10:22] == 9).any()


def test_large_pictures_are_made_smaller_before_they_are_converted(monkeypatch: pytest.MonkeyPatch) -> None:
    big = Image.fromarray(np.kron(MARKED, np.ones((16, 16, 1), np.uint8)))
    wanted = fitted(big, (32, 32), PLAIN)
    monkeypatch.setattr("ibllm.pictures.LARGE", 10_000)
    near(fitted(big, (32, 32), PLAIN), wanted, 3)
    near(fitted(big.convert("P"), (32, 32), PLAIN), wanted, 60)


def png(width: int, height: int, depth: int = 1) -> bytes:
    """The header of a PNG, and next to nothing in it."""

    def chunk(name: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))

    header = struct.pack(">IIBBBBB", width, height, depth, 0, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(b"\0" * 64)) + chunk(b"IEND", b"")


def animated(format: str) -> bytes:
    out = io.BytesIO()
    frames = [Image.new("RGB", (8, 8), colour) for colour in ("red", "blue", "green")]
    frames[0].save(out, format, save_all=True, append_images=frames[1:])
    return out.getvalue()


def cut() -> bytes:
    out = io.BytesIO()
    Image.effect_noise((64, 64), 90).save(out, "PNG")
    return out.getvalue()[:600]


REFUSED = {
    "bomb.png": (png(12_000, 12_000), "is 12000 × 12000 pixels: expected at most 89,478,485"),
    "bigger.png": (png(60_000, 60_000), "60000 pixels|too many pixels"),
    "moving.gif": (animated("GIF"), "has 3 frames: expected one image"),
    "moving.webp": (animated("WEBP"), "has 3 frames: expected one image"),
    "moving.png": (animated("PNG"), "has 3 frames: expected one image"),
    "pages.tif": (animated("TIFF"), "has 3 frames: expected one image"),
    "cut.png": (cut(), "cannot be read"),
    "empty.png": (b"", "is no image of a kind that Pillow reads"),
    "text.png": (b"a red circle", "is no image of a kind that Pillow reads"),
    "page.svg": (b"<svg xmlns='http://www.w3.org/2000/svg'/>", "is no image of a kind that Pillow reads"),
    "none.png": (png(0, 8), "none.png"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_cannot_be_read_is_refused_with_its_path(tmp_path: Path, name: str) -> None:
    content, words = REFUSED[name]
    (tmp_path / name).write_bytes(content)
    with pytest.raises(UserError, match=words) as refused:
        one(tmp_path / name)
    assert str(tmp_path / name) in str(refused.value)
    with pytest.raises(UserError, match="image 2 of 2"):
        pixels([RAMP, content], SHAPE, PLAIN)


def test_a_limit_of_pixels_can_be_set() -> None:
    out = io.BytesIO()
    Image.fromarray(RAMP).save(out, "PNG")
    assert opened(out.getvalue(), most=1024).size == (32, 32)
    with pytest.raises(UserError, match="an upload is 32 × 32 pixels: expected at most 1,023"):
        opened(out.getvalue(), "an upload", most=1023)


@pytest.mark.parametrize(
    ("given", "words"),
    [
        (np.full((8, 8, 3), np.nan), r"expected floats in \[0, 1\]"),
        (RAMP / 127.5 - 1, r"\(y \+ 1\) / 2 makes \[-1, 1\] of it"),
        (RAMP.astype(float), r"values from 0 to 255: expected floats in \[0, 1\], or uint8"),
        (RAMP.astype(int) - 1, "values from -1 to 254: expected 0 to 255"),
        (np.zeros((3, 32, 32), np.uint8), r"shape \(3, 32, 32\): expected \(h w c\)"),
        (torch.zeros(32, 32, 3), r"shape \(32, 32, 3\): expected \(c h w\)"),
        (np.zeros((0, 8, 3), np.uint8), "shape"),
        (np.zeros(8), "shape"),
        (np.zeros((8, 8, 3), complex), "complex128"),
        (np.array([["a"]]), "expected uint8"),
        (3, "is a int: expected a path"),
        (None, "is a NoneType: expected a path"),
        ("nowhere.png", "there is no image nowhere.png"),
        ("img\0.png", "cannot be read"),
        ("x" * 5000, "name too long"),
        (".", "is a folder: expected an image"),
        (Image.new("F", (8, 8), 300.0), r"expected floats in \[0, 1\]"),
        (Image.new("RGB", (0, 8)), "0 × 8 pixels"),
    ],
)
def test_what_is_no_picture_is_refused(given: Any, words: str) -> None:
    with pytest.raises(UserError, match=words):
        one(given)


def test_lists_of_all_sorts() -> None:
    batch = np.stack([RAMP, MARKED])
    assert [
        len(found) for found, single in map(listed, (batch, torch.from_numpy(batch), [RAMP, MARKED], (RAMP, MARKED))) if not single
    ] == [2] * 4
    assert all(single for _, single in map(listed, (RAMP, "a.png", Path("a.png"), b"", io.BytesIO(), Image.fromarray(RAMP))))
    assert len(listed(iter([RAMP, MARKED]))[0]) == 2
    assert pixels([], SHAPE, PLAIN).shape == (0, 32, 32, 3)


def test_a_folders_pictures_are_in_order_without_what_is_hidden(tmp_path: Path) -> None:
    for name in ("b.png", "a/z.JPG", ".ipynb_checkpoints/c.png", ".d.png", "notes.txt", "a/x.tif"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_bytes(b"")
    assert [str(path.relative_to(tmp_path)) for path in in_folder(tmp_path)] == ["a/x.tif", "a/z.JPG", "b.png"]
    with pytest.raises(UserError, match="is no folder"):
        in_folder(tmp_path / "b.png")
    (tmp_path / "empty").mkdir()
    with pytest.raises(UserError, match=re.escape("holds no images (.avif")):
        in_folder(tmp_path / "empty")
