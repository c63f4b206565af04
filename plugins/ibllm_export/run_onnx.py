#!/usr/bin/env python3
"""Draws and captions with the graphs beside this file. It needs numpy, onnxruntime and Pillow; icu4py for texts in scripts without spaces.

    python run_onnx.py generate "a small red circle at the top left" -o out.png
    python run_onnx.py caption a.png

From Python: ``Exported(folder).generate([text])``, ``Exported(folder).caption(images)``. Noise comes from numpy's generator, since the graphs take it as an
input: the same seed gives another drawing than the framework that the model was trained with, of the same distribution.

Shapes: b batch, t tokens, h w c an image, v vocabulary.
"""

from __future__ import annotations

import argparse
import json
import re
import sys
import unicodedata
import warnings
import zlib
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image, ImageOps, UnidentifiedImageError

PAD, BOS, EOS, UNK = 0, 1, 2, 3
#: A share of a picture that is worth a word where it is cut off, and characters of a text that are said again.
MUCH, CHARACTERS = 0.25, 60

JOIN, OPENING, CLOSING = "<join>", frozenset("([{“‘«"), frozenset(",.;:!?)]}”’»…%")


class Mistake(Exception):
    """A mistake of the user's: one line on standard error, exit code 2."""


class Notice(UserWarning):
    """What a user should know and nothing stops for."""


class Words:
    """Words and marks. A space between two pieces is a token only where the usual one is not there."""

    def __init__(self, state: dict[str, Any]) -> None:
        self.max_length, self.lowercase = state["max_length"], state["lowercase"]
        self.pieces = state["pieces"]
        self.ids = {piece: place for place, piece in enumerate(self.pieces) if place > UNK}
        self.words, self.joined, unspaced = state["words"], state["joined"], state["unspaced"]
        tail = f"[{self.joined}]*" if self.joined else ""
        letter = rf"(?:(?![{unspaced}])[^\W_]{tail})"
        sign = rf"[\U0001f1e6-\U0001f1ff]{{2}}|.(?:[{self.joined}]|(?<=\u200d)[^\w\s])*" if self.joined else "."
        self.piece = re.compile(rf"\s+|[{unspaced}]{tail}|{letter}+(?:['’-]{letter}+)*|{sign}", re.DOTALL)
        self.run = re.compile(f"[{unspaced}][{unspaced}{self.joined}]*")
        self.capitals = any(piece != piece.lower() for piece in self.ids)

    def known_best(self, text: str) -> str:
        """The text, in lower case where it is known better so and the vocabulary has no capitals."""
        small, lacking = text.lower(), self.read(text).count(UNK)
        return small if lacking and not self.capitals and self.read(small).count(UNK) < lacking else text

    def unknown(self, text: str) -> list[str]:
        """The words of a text that are not in the vocabulary; where all are, the marks."""
        pieces = self.split(text.lower() if self.lowercase else text)
        lacking = [piece for piece in dict.fromkeys(pieces) if not piece.isspace() and piece not in self.ids]
        return [piece for piece in lacking if any(map(str.isalnum, piece))] or lacking

    def split(self, text: str) -> list[str]:
        """The pieces of a text; Chinese, Japanese, Thai and the like are cut into words by ICU where the vocabulary was."""
        text = unicodedata.normalize("NFC", text) if self.joined else text
        if not self.words:
            return self.piece.findall(text)
        found, end = [], 0
        for run in self.run.finditer(text):
            try:
                from icu4py.breakers import WordBreaker
            except ImportError:
                raise Mistake("texts of this language are cut into words by ICU: pip install icu4py") from None
            found += self.piece.findall(text[end : run.start()]) + list(WordBreaker(run.group(), ""))
            end = run.end()
        return found + self.piece.findall(text[end:])

    def gap(self, before: str, after: str) -> str:
        """What usually stands between two pieces."""
        touching = not before or self.run.match(before) or before in OPENING or self.run.match(after) or after in CLOSING
        return "" if touching else " "

    def read(self, text: str) -> list[int]:
        """The ids of a text, without beginning and end."""
        found: list[str] = []
        last = space = ""
        for piece in self.split(text.lower() if self.lowercase else text):
            if piece.isspace():
                space = piece
                continue
            if space != (usual := self.gap(last, piece)):
                found += list(space) or ([JOIN] if usual else [])
            found.append(piece)
            last, space = piece, ""
        return [self.ids.get(piece, UNK) for piece in [*found, *space]]

    def write(self, ids: list[int]) -> str:
        """The text of ids without special ones."""
        text, last, free = "", "", True
        for place in ids:
            piece = self.pieces[place] if place < len(self.pieces) else self.pieces[UNK]
            if piece == JOIN or piece.isspace():
                text, free = text + ("" if piece == JOIN else piece), True
            else:
                text, last, free = text + ("" if free else self.gap(last, piece)) + piece, piece, False
        return text


class Bytes:
    """Byte-level byte-pair encoding."""

    #: Bytes that are written as they are; the others become characters from 256 on.
    PLAIN = (*range(33, 127), *range(161, 173), *range(174, 256))
    CONTRACTION = re.compile("'(?:s|t|re|ve|m|ll|d)")
    #: Of a text whose letters are L, numbers N, spaces S (a blank B) and others O.
    RUN = re.compile(r"B?L+|B?N+|B?O+|[BS]+(?![^BS])|[BS]+")

    def __init__(self, state: dict[str, Any]) -> None:
        self.max_length, self.vocabulary, self.composed = state["max_length"], state["vocabulary"], state["composed"]
        self.ranks = {tuple(pair): rank for rank, pair in enumerate(state["merges"])}
        others = [byte for byte in range(256) if byte not in self.PLAIN]
        self.characters = {byte: chr(byte) for byte in self.PLAIN} | {byte: chr(256 + n) for n, byte in enumerate(others)}
        self.bytes = {character: byte for byte, character in self.characters.items()}
        self.pieces = {place: piece for piece, place in self.vocabulary.items()}

    def known_best(self, text: str) -> str:
        """The text: every byte is known."""
        return text

    def unknown(self, text: str) -> list[str]:
        """Nothing of a text, for the same reason."""
        return []

    def split(self, text: str) -> list[str]:
        """The parts of a text within which bytes are merged."""

        def kind(character: str) -> str:
            if character.isspace():
                return "B" if character == " " else "S"
            return {"L": "L", "N": "N"}.get(unicodedata.category(character)[0], "O")

        kinds, parts, place = "".join(map(kind, text)), [], 0
        while place < len(text):
            found = self.CONTRACTION.match(text, place) or self.RUN.match(kinds, place)
            assert found is not None
            parts.append(text[place : found.end()])
            place = found.end()
        return parts

    def read(self, text: str) -> list[int]:
        """The ids of a text, without beginning and end."""
        ids = []
        for part in self.split(unicodedata.normalize("NFC", text) if self.composed else text):
            pieces = [self.characters[byte] for byte in part.encode()]
            while len(pieces) > 1:
                place = min(range(len(pieces) - 1), key=lambda n: self.ranks.get((pieces[n], pieces[n + 1]), len(self.ranks)))
                if (pieces[place], pieces[place + 1]) not in self.ranks:
                    break
                pieces[place : place + 2] = [pieces[place] + pieces[place + 1]]
            ids += [self.vocabulary.get(piece, UNK) for piece in pieces]
        return ids

    def write(self, ids: list[int]) -> str:
        """The text of ids without special ones."""
        pieces = [self.pieces[place] for place in ids]
        return b"".join(bytes([self.bytes[one]]) if one in self.bytes else one.encode() for piece in pieces for one in piece).decode(
            errors="replace"
        )


TOKENIZERS: dict[str, Any] = {"word": Words, "bpe": Bytes}


class Exported:
    """The graphs of a folder, ready to run; `threads` within an operation, 0 for as many as there are cores."""

    def __init__(self, folder: str | Path, threads: int = 0) -> None:
        import onnxruntime

        self.folder, self._session_of = Path(folder), onnxruntime.InferenceSession
        self.about = json.loads((self.folder / "export.json").read_text(encoding="utf-8"))
        self.options = onnxruntime.SessionOptions()
        self.options.intra_op_num_threads = threads
        draw, write = self.about.get("draw"), self.about.get("write")
        #: Of the captions that were written last, which may not be longer.
        self.cut: Any = np.zeros(0, bool)
        self.draw: Any = self._session(draw["graph"]) if draw else None
        self.reader: Any = self._session(write["read"]) if write else None
        self.step: Any = self._session(write["step"]) if write else None

    def _session(self, name: str) -> Any:
        return self._session_of(str(self.folder / name), self.options, providers=["CPUExecutionProvider"])

    def tokenizer(self, side: str) -> Any:
        """The tokenizer of ``draw`` or ``write``."""
        name = self.about[side]["tokenizer"]
        state = json.loads((self.folder / name).read_text(encoding="utf-8"))
        if state["kind"] not in TOKENIZERS:
            raise Mistake(f"{name}: texts of the tokenizer {state['kind']!r} cannot be read or written here, only their ids")
        return TOKENIZERS[state["kind"]](state)

    def as_read(self, texts: list[str]) -> tuple[list[str], list[str]]:
        """Texts as the model reads them, and what is to be said of them: read in lower case, pieces that it never saw, ends that it does not read.

        Raises:
            Mistake: a text is empty.
        """
        tokenizer, found, said = self.tokenizer("draw"), list[str](), list[str]()
        for number, text in enumerate(texts, 1):
            which = "the text" if len(texts) == 1 else f"text {number} of {len(texts)}"
            given = " ".join(text.split())
            if not any(character.isprintable() and not character.isspace() for character in given):
                raise Mistake(f"{which} is empty: expected words")
            read = tokenizer.known_best(given)
            if read != given:
                said.append(f"{which} is read in lower case: this model's training texts had no capitals")
            if unknown := tokenizer.unknown(read):
                said.append(f"{which}: never seen in training, so nothing can be known of it: {', '.join(unknown)}")
            if (most := tokenizer.max_length) < (length := len(tokenizer.read(read)) + 2):
                shown = read if len(read) <= CHARACTERS else f"{read[: CHARACTERS - 1]}…"
                said.append(f"{which} has {length} tokens and is cut to {most}, the most that the model reads: {shown!r}")
            found.append(read)
        return found, said

    def encode(self, texts: list[str]) -> tuple[Any, Any]:
        """ids (b t), mask (b t)."""
        tokenizer = self.tokenizer("draw")
        rows = [[BOS, *tokenizer.read(text)[: tokenizer.max_length - 2], EOS] for text in texts]
        ids = np.full((len(rows), max(map(len, rows))), PAD, np.int64)
        for number, row in enumerate(rows):
            ids[number, : len(row)] = row
        return ids, np.arange(ids.shape[1]) < np.array([[len(row)] for row in rows])

    def noise(self, texts: list[str], tokens: int, seed: int) -> list[Any]:
        """The random numbers of the graph's inputs, each (b …): a text's own, whatever else is drawn."""
        streams = [np.random.default_rng([seed, zlib.crc32(text.encode())]) for text in texts]
        found = []
        for draw in self.about["draw"]["noise"]:
            shape = [tokens if size == "t" else size for size in draw["shape"]]
            rows = [
                stream.standard_normal(shape, np.float32) if draw["kind"] == "normal" else stream.random(shape, np.float32)
                for stream in streams
            ]
            found.append(np.stack(rows))
        return found

    def images(self, ids: Any, mask: Any, noise: list[Any]) -> Any:
        """(b c h w) in [−1, 1] of ids (b t), mask (b t) and the noise."""
        assert self.draw is not None, "this model does not draw"
        feed = {"ids": ids, "mask": mask} | {draw["name"]: some for draw, some in zip(self.about["draw"]["noise"], noise, strict=True)}
        return self.draw.run(None, {one.name: feed[one.name] for one in self.draw.get_inputs()})[0]

    def generate(self, texts: list[str], seed: int = 0) -> Any:
        """(b h w c) uint8 of texts; what `as_read` says of them is a warning."""
        texts, said = self.as_read(texts)
        for one in said:
            warnings.warn(one, Notice, stacklevel=2)
        ids, mask = self.encode(texts)
        return to_pixels(self.images(ids, mask, self.noise(texts, ids.shape[1], seed)))

    def write(self, images: Any, temperature: float = 0.0, seed: int = 0) -> Any:
        """ids (b t) of captions of images (b c h w) in [−1, 1]: the likeliest words, or drawn with a temperature. `cut` says (b) which may not be longer."""
        assert self.reader is not None and self.step is not None, "this model does not write"
        about, chance = self.about["write"], np.random.default_rng(seed)
        state = dict(zip(about["state"], self.reader.run(None, {"image": images}), strict=True))
        used = {one.name for one in self.step.get_inputs()}
        ids = np.full(len(images), BOS, np.int64)
        ended, written = np.zeros(len(images), bool), []
        for place in range(1, about["max_length"]):
            logits, *after = self.step.run(None, {"token": ids} | {name: state[name] for name in used - {"token"}})
            state |= dict(zip(about["changed"], after, strict=True))
            logits[:, : BOS + 1] = -np.inf
            if temperature:  # Gumbel's trick: the largest of logits with such noise is a draw of their softmax
                logits = logits / temperature + chance.gumbel(size=logits.shape)
            last = place == about["max_length"] - 1
            self.cut = ~ended & (logits.argmax(1) != EOS) & last
            ids = np.where(ended, PAD, EOS if last else logits.argmax(1))
            written.append(ids)
            ended |= ids == EOS
            if ended.all():
                break
        return np.stack(written, 1)

    def caption(self, images: Any, temperature: float = 0.0, seed: int = 0) -> list[str]:
        """Captions of images (b h w c) uint8."""
        tokenizer = self.tokenizer("write")
        floats = images.transpose(0, 3, 1, 2).astype(np.float32) / np.float32(127.5) - 1
        texts = [tokenizer.write([i for i in row if i > EOS]) for row in self.write(floats, temperature, seed).tolist()]
        if self.cut.any():
            most = self.about["write"]["max_length"]
            warnings.warn(
                f"{self.cut.sum()} of {len(texts)} captions end because they may not be longer than {most} tokens", Notice, stacklevel=2
            )
        return texts

    def fitted(self, path: str) -> Any:
        """A picture of any size and mode as the model reads it, (h w c) uint8; that much of it is cut off is a warning.

        Raises:
            Mistake: there is none, or it cannot be read.
        """
        (colours, height, width), fit = self.about["image_shape"], self.about["fit"]
        try:
            with Image.open(path) as opened:
                upright = ImageOps.exif_transpose(opened)
                made = fitted(upright, (colours, height, width), fit["how"], tuple(fit["background"]))
        except FileNotFoundError:
            raise Mistake(f"there is no picture {path}") from None
        except Exception as error:  # readers of damaged files raise anything
            what = "is no picture of a kind that Pillow reads" if isinstance(error, UnidentifiedImageError) else f"cannot be read ({error})"
            raise Mistake(f"{path} {what}") from None
        across, down = upright.width * height, upright.height * width
        outside = 1 - min(across, down) / max(across, down)
        if fit["how"] == "crop" and outside > MUCH:
            why = "the model reads the middle, as its data were cropped"
            warnings.warn(f"{outside:.0%} of the picture {path} lies outside what is read: {why}", Notice, stacklevel=2)
        return made


def fitted(image: Image.Image, shape: tuple[int, int, int], how: str, background: tuple[int, ...]) -> Any:
    """The middle of an upright picture (``crop``), or the whole of it with bars (``pad``), (h w c) uint8; `background` shows through and beside it."""
    colours, height, width = shape
    upright = image.convert("RGBA")
    plain = Image.alpha_composite(Image.new("RGBA", upright.size, (*background, 255)), upright).convert("RGB")
    if how == "crop":
        made = ImageOps.fit(plain, (width, height), Image.Resampling.LANCZOS)
    else:
        made = ImageOps.pad(plain, (width, height), Image.Resampling.LANCZOS, color=background)
    return np.asarray(made.convert("L" if colours == 1 else "RGB")).reshape(height, width, colours)


def to_pixels(images: Any) -> Any:
    """(b c h w) in [−1, 1] → (b h w c) uint8."""
    return np.rint((images.clip(-1, 1) + 1) * 127.5).astype(np.uint8).transpose(0, 2, 3, 1)


def require_new(output: Path, overwrite: bool) -> None:
    """Raises `Mistake` for a file that is there already, or a name that is no picture's."""
    if output.exists() and not overwrite:
        raise Mistake(f"{output} is there already; choose another name, or write over it with --overwrite")
    if output.suffix.lower() not in Image.registered_extensions():
        raise Mistake(f"{output}: expected a name that ends in .png, .jpg or another ending of pictures")


def save(drawn: Any, output: Path) -> None:
    """Writes drawings (b h w c) side by side. Raises `Mistake` where they cannot be written."""
    row = np.concatenate(list(drawn), 1)
    try:
        Image.fromarray(row[..., 0] if row.shape[-1] == 1 else row).save(output)
    except OSError as error:
        raise Mistake(f"{output}: {error.strerror or error}") from None


def run(given: argparse.Namespace) -> None:
    """Does what the command line says. Raises `Mistake`."""
    exported = Exported(Path(__file__).parent)
    if (needed := "draw" if given.command == "generate" else "write") not in exported.about:
        raise Mistake(f"this folder has no graph to {needed}")
    for name in ("seed", "temperature"):
        if not 0 <= getattr(given, name, 0) < float("inf"):
            raise Mistake(f"--{name} {getattr(given, name)}: expected at least 0")
    if given.command == "generate":
        require_new(given.output, given.overwrite)
        save(exported.generate(given.texts, given.seed), given.output)
        print(given.output)
        return
    pictures = np.stack([exported.fitted(path) for path in given.pictures])
    for path, text in zip(given.pictures, exported.caption(pictures, given.temperature, given.seed), strict=True):
        print(f"{path}: {text}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seed", type=int, default=0, help="of what is drawn by chance")
    commands = parser.add_subparsers(dest="command", required=True)
    generate = commands.add_parser("generate", help="draw texts")
    generate.add_argument("texts", nargs="+")
    generate.add_argument("-o", "--output", type=Path, default=Path("out.png"), help="a picture, all drawings side by side")
    generate.add_argument("--overwrite", action="store_true", help="write over a file that is there already; without it that is refused")
    caption = commands.add_parser("caption", help="write captions of pictures")
    caption.add_argument("pictures", nargs="+")
    caption.add_argument("--temperature", type=float, default=0.0, help="0 writes the likeliest words")
    given = parser.parse_args()
    warnings.formatwarning = lambda message, *_: f"warning: {message}\n"
    warnings.simplefilter("always", Notice)
    try:
        run(given)
    except Mistake as mistake:
        print(f"error: {mistake}", file=sys.stderr)
        sys.exit(2)


if __name__ == "__main__":
    main()
