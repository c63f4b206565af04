"""Images as people have them: turned, of many tones, for print, see-through, animated, absurd or damaged; each in a data set as it should look."""

from __future__ import annotations

import io
import struct
import subprocess
import sys
import tracemalloc
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from ibllm.images.stored import decoded
from ibllm.pictures import Fit, fitted, loaded
from ibllm_core.errors import UserError

RED, BLUE = (220, 30, 20), (20, 40, 200)


def data(image: bytes, size: int = 16, fit: Fit | None = None, **more: Any) -> np.ndarray:
    """Its pixels as a data set has them."""
    return decoded(io.BytesIO(image), "it", (size, size), fit or Fit(), **more)


def saved(image: Image.Image, format: str = "PNG", **more: Any) -> bytes:
    out = io.BytesIO()
    image.save(out, format, **more)
    return out.getvalue()


def near(found: np.ndarray, colour: Any, by: int = 6) -> None:
    assert np.abs(found.astype(int) - np.array(colour)).max() <= by, (found.reshape(-1, 3)[:3], colour)


def halves(size: tuple[int, int] = (640, 480)) -> Image.Image:
    """Red above, blue below."""
    image = Image.new("RGB", size, RED)
    image.paste(BLUE, (0, size[1] // 2, *size))
    return image


@pytest.mark.parametrize("size", [128, 100, 60, 31])
@pytest.mark.parametrize("how", ["crop", "pad"])
@pytest.mark.parametrize("shape", [(640, 480), (480, 640), (1000, 130), (129, 1000)])
def test_a_jpeg_is_decoded_at_the_size_that_is_needed_and_never_below(size: int, how: str, shape: tuple[int, int]) -> None:
    image = saved(halves(shape), "JPEG", quality=90)
    small = loaded(io.BytesIO(image), "it", size=(size, size), fit=Fit(how))
    target = size / (min(shape) if how == "crop" else max(shape))
    assert small.width >= min(1, target) * shape[0] - 1 and small.height >= min(1, target) * shape[1] - 1
    if target <= 0.5:
        assert small.width <= -(-shape[0] // 2), "half of the pixels in each direction would do"
    whole = fitted(loaded(io.BytesIO(image), "it"), (size, size), Fit(how))
    # The two differ where colours meet.
    assert np.abs(data(image, size, Fit(how)).astype(int) - whole).mean() < 4


@pytest.mark.parametrize("orientation", range(1, 9))
def test_a_photograph_is_upright_however_the_camera_was_held(orientation: int) -> None:
    turns = {2: "FLIP_LEFT_RIGHT", 3: "ROTATE_180", 4: "FLIP_TOP_BOTTOM", 5: "TRANSPOSE", 6: "ROTATE_90", 7: "TRANSVERSE", 8: "ROTATE_270"}
    lying = halves() if orientation == 1 else halves().transpose(getattr(Image.Transpose, turns[orientation]))
    exif = Image.Exif()
    exif[0x0112] = orientation
    found = data(saved(lying, "JPEG", exif=exif, quality=95))
    near(found[:6], RED)
    near(found[-6:], BLUE)


@pytest.mark.parametrize(
    "exif",
    [
        b"Exif\0\0" + b"\xff" * 40,
        b"Exif\0\0MM\0*\0\0\0\x08\xff\xff",
        b"Exif\0\0II*\0" + struct.pack("<IHHHI", 8, 1, 0x0112, 2, 0xFFFFFFF0) + b"\0" * 8,
        b"Exif\0\0II*\0" + struct.pack("<IHHHII", 8, 1, 0x0112, 3, 1, 77) + b"\0" * 4,
        b"Exif\0\0II*\0" + struct.pack("<IHHHI", 8, 1, 0x0112, 2, 4) + b"six\0",
        b"",
    ],
    ids=["no header", "entries that are not there", "a pointer to nowhere", "a ninth orientation", "a word", "empty"],
)
def test_malformed_exif_is_no_reason_to_lose_a_photograph(exif: bytes) -> None:
    found = data(saved(halves(), "JPEG", exif=exif, quality=95))
    near(found[:6], RED)
    near(found[-6:], BLUE)


@pytest.mark.parametrize("format", ["PNG", "TIFF"])
def test_tones_of_16_bits_are_kept_however_large(format: str, monkeypatch: pytest.MonkeyPatch) -> None:
    ramp = np.tile(np.linspace(0, 65535, 256).astype(np.uint16)[None], (256, 1))
    image = saved(Image.fromarray(ramp), format)
    wanted = (ramp[:, 8::16] // 257)[:16, :, None]
    near(data(image), wanted)
    monkeypatch.setattr("ibllm.pictures.LARGE", 1000)
    monkeypatch.setattr("ibllm.pictures.BAND", 4000)
    near(data(image), wanted)


def test_prints_keep_their_colours() -> None:
    """Those of Adobe, whose JPEGs hold inverted inks, as Pillow writes them, too."""
    inks = halves().convert("CMYK")
    for image in (saved(inks, "JPEG", quality=95), saved(inks, "TIFF")):
        near(data(image)[:6], RED, 12)
        near(data(image)[-6:], BLUE, 12)


def test_what_may_be_seen_through_lies_on_the_background() -> None:
    clear = Image.new("RGBA", (40, 40), (*RED, 0))
    clear.paste((*BLUE, 255), (0, 20, 40, 40))
    palette = clear.convert("RGB").quantize(4)
    hidden = palette.getpixel((0, 0))
    fit = Fit("crop", (0, 200, 0))
    for image in (
        saved(clear),
        saved(clear, "WEBP", lossless=True),
        saved(palette, transparency=hidden),
        saved(palette, "GIF", transparency=hidden),
        saved(clear.convert("LA")),
    ):
        near(data(image, fit=fit)[:6], (0, 200, 0))
    near(data(saved(palette, transparency=hidden), fit=fit)[-6:], BLUE)


@pytest.mark.parametrize("format", ["GIF", "WEBP", "PNG", "TIFF"])
def test_an_animation_is_its_first_frame_and_is_counted(format: str) -> None:
    image = saved(Image.new("RGB", (20, 20), RED), format, save_all=True, append_images=[Image.new("RGB", (20, 20), BLUE)])
    counted: list[int] = []
    near(data(image, animated=lambda: counted.append(1)), RED)
    assert counted == [1]


def chunk(name: bytes, content: bytes) -> bytes:
    return struct.pack(">I", len(content)) + name + content + struct.pack(">I", zlib.crc32(name + content))


def black(width: int, height: int) -> bytes:
    """A PNG of one bit a pixel, whole, and small whatever its size."""
    packer = zlib.compressobj(9)
    content = b"".join(packer.compress(b"\0" * (1 + (width + 7) // 8)) for _ in range(height)) + packer.flush()
    header = struct.pack(">IIBBBBB", width, height, 1, 0, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", content) + chunk(b"IEND", b"")


def test_a_small_file_of_very_many_pixels_is_refused_by_its_header_or_read_in_bounded_memory() -> None:
    image = black(12_000, 12_000)
    assert len(image) < 20_000
    with pytest.raises(
        UserError, match=r"it is 12000 × 12000 pixels: expected at most 89,478,485 of them; make it smaller, or raise data.most_pixels"
    ):
        data(image)


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="memory is read from /proc")
def test_the_largest_that_is_read_takes_little_more_than_its_own_pixels() -> None:
    code = (
        "import io, resource, sys; from ibllm.images.stored import decoded; from ibllm.pictures import Fit\n"
        "image = sys.stdin.buffer.read(); before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss\n"
        "decoded(io.BytesIO(image), 'it', (64, 64), Fit(), 178_956_970)\n"
        "print((resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / 1024)"
    )
    done = subprocess.run([sys.executable, "-W", "ignore", "-c", code], input=black(9_000, 9_000), capture_output=True, check=True)
    # A byte a pixel as Pillow decodes it is 77 MiB; by four bytes a pixel, and a copy, it would be 600.
    assert float(done.stdout) < 150


@pytest.mark.parametrize(
    "image",
    [
        b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", struct.pack(">IIBBBBB", 2**31 - 1, 2**31 - 1, 8, 6, 0, 0, 0)),
        b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", struct.pack(">IIBBBBB", 0, 0, 8, 6, 0, 0, 0)) + chunk(b"IDAT", b"") + chunk(b"IEND", b""),
        b"GIF89a" + struct.pack("<HHBBB", 65535, 65535, 0, 0, 0) + b"," + struct.pack("<HHHHB", 0, 0, 65535, 65535, 0) + b"\x02\x00;",
        b"BM" + struct.pack("<IHHIIiiHHIIiiII", 10**9, 0, 0, 54, 40, 2**31 - 1, 2**31 - 1, 1, 24, 0, 0, 0, 0, 0, 0),
        b"II*\0" + struct.pack("<IH", 8, 2) + struct.pack("<HHII", 256, 4, 1, 2**31) + struct.pack("<HHII", 257, 4, 1, 2**31) + b"\0" * 4,
        b"P6 99999999999 99999999999 255\n",
        b"RIFF\xff\xff\xff\xffWEBPVP8X",
        b"",
    ],
    ids=["png", "png of nothing", "gif", "bmp", "tiff", "ppm", "webp", "empty"],
)
def test_absurd_headers_are_refused_in_bounded_memory(image: bytes) -> None:
    tracemalloc.start()
    try:
        with pytest.raises(UserError, match=r"^it "):
            data(image)
        assert tracemalloc.get_traced_memory()[1] < 5_000_000
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize("format", ["JPEG", "PNG", "WEBP", "GIF", "BMP", "TIFF"])
def test_a_file_that_is_cut_off_is_broken(format: str) -> None:
    noise = Image.fromarray(np.random.default_rng(0).integers(0, 255, (64, 64, 3), dtype=np.uint8))
    image = saved(noise, format)
    with pytest.raises(UserError, match=r"^it "):
        data(image[: len(image) // 2])
