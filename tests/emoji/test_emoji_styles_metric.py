"""The data's own reader and the metric `emoji_styles`, on pictures and captions whose figures are known."""

from __future__ import annotations

import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import attrs
import numpy as np
import pytest

pytest.importorskip("resvg_py")

from ibllm_cli.main import main
from ibllm_emoji.config import EmojiStylesConfig, StylesConfig
from ibllm_emoji.styles.dataset import STYLES, EmojiStylesDataset
from ibllm_emoji.styles.metric import EmojiStylesMetric, mean_drawings, shifted
from ibllm_emoji.styles.reader import Reader, described, discriminant, manner, nearest
from ibllm_emoji.styles.wording import write

FOLDER = Path(__file__).parent / "archives"
TINY = Path(__file__).parents[1] / "training" / "tiny.toml"


@pytest.fixture(scope="module")
def data() -> EmojiStylesDataset:
    return EmojiStylesDataset(EmojiStylesConfig(path=str(FOLDER), languages=("en", "hi")), None)


@pytest.fixture(scope="module")
def reader(data: EmojiStylesDataset) -> Reader:
    return Reader.of(data.gallery)


def everything(data: EmojiStylesDataset) -> tuple[Any, Any, Any]:
    """The real drawings (b h w c), their concepts and styles (b)."""
    images = data.gallery.images
    styles, concepts = (some.ravel() for some in np.indices(images.shape[:2]))
    return images.reshape(-1, *images.shape[2:]), concepts, styles


def evaluation(data: EmojiStylesDataset, split: str = "train", **changes: Any) -> Any:
    samples = data.samples(split, np.arange(data.sizes()[split]))
    kept: dict[str, Any] = {}

    def once(name: str, compute: Any) -> Any:
        return kept.setdefault(name, compute())

    perfect = {
        "dataset": data,
        "split": split,
        "samples": samples,
        "languages": samples.languages,
        "generated": samples.images,
        "read": samples.captions,
        "once": once,
    }
    found = SimpleNamespace(**(perfect | changes))
    return type("Stub", (SimpleNamespace,), {"__len__": lambda self: len(samples)})(**vars(found))


def changes() -> dict[str, Any]:
    rng = np.random.default_rng(0)
    return {
        "moved": shifted,
        "noisy": lambda images: np.clip(images + rng.normal(0, 8, images.shape), 0, 255).astype(np.uint8),
        "paler": lambda images: (255 - (255 - images.astype(float)) * 0.85).astype(np.uint8),
    }


@pytest.mark.parametrize("change", changes())
def test_the_reader_knows_real_drawings_that_changed_a_little(data: EmojiStylesDataset, reader: Reader, change: str) -> None:
    images, concepts, styles = everything(data)
    images = changes()[change](images)
    assert reader.concept_right(images, concepts, styles).mean() >= 0.95
    assert reader.style_right(images, styles).mean() >= 0.9


def test_a_thing_is_known_in_another_size(data: EmojiStylesDataset, reader: Reader) -> None:
    images, concepts, styles = everything(data)
    small = np.full_like(images, 255)
    small[:, 4:28, 4:28] = images[:, np.linspace(0, 31, 24).astype(int)][:, :, np.linspace(0, 31, 24).astype(int)]
    assert reader.concept_right(small, concepts, styles).mean() >= 0.9


def test_other_things_and_styles_are_wrong(data: EmojiStylesDataset, reader: Reader) -> None:
    images, concepts, styles = everything(data)
    assert not reader.concept_right(images, (concepts + 1) % 12, styles).any()
    assert reader.style_right(images, (styles + 1) % 4).mean() <= 0.05


def test_drawings_that_look_the_same_are_each_right(data: EmojiStylesDataset, reader: Reader) -> None:
    alike = reader.looks.copy()
    alike[0, 1] = alike[0, 0]
    reader = attrs.evolve(reader, looks=alike)
    drawing = data.gallery.images[0, :1]
    assert reader.concept_right(drawing, np.array([1]), np.array([0])).all()
    assert not reader.concept_right(drawing, np.array([2]), np.array([0])).any()


def test_a_description_is_of_unit_scale_and_blank_pictures_have_one() -> None:
    blank = np.full((2, 32, 32, 3), 255, dtype=np.uint8)
    assert np.isfinite(described(blank)).all()
    square = blank.copy()
    square[:, 8:24, 8:24] = (200, 30, 30)
    found = described(square)
    gradients = found[:, : -8 * 8 * 3]
    np.testing.assert_allclose(np.linalg.norm(gradients, axis=1), 1, atol=1e-4)
    bank = np.concatenate([found, described(255 - square)])
    assert nearest(found, bank).tolist() == [0, 0]


def test_the_discriminant_is_fishers() -> None:
    """Against its definition: with equal within-class covariance, the nearest mean by Mahalanobis' distance."""
    rng = np.random.default_rng(0)
    means = rng.normal(size=(4, 6)) * 2
    styles = np.arange(400) % 4
    points = (means[styles] + rng.normal(size=(400, 6)) @ rng.normal(size=(6, 6)) * 0.5).astype(np.float32)
    weights, offsets = discriminant(points, styles)
    centres = np.stack([points[styles == s].mean(0) for s in range(4)])
    rest = points - centres[styles]
    within = rest.T @ rest / 400
    within += 0.03 * np.trace(within) / 6 * np.eye(6)
    apart = points[:, None] - centres[None]
    distances = np.einsum("bsk,kl,bsl->bs", apart, np.linalg.inv(within), apart)
    assert ((points @ weights + offsets).argmax(1) == distances.argmin(1)).all()


def test_a_palette_adds_up_and_margins_are_where_drawings_reach() -> None:
    images = np.full((1, 32, 32, 3), 255, dtype=np.uint8)
    images[0, 8:24, 8:24] = (200, 30, 30)
    found = manner(images)[0]
    palette, top, bottom, left, right = found[:512], *found[512:].reshape(4, 4)
    np.testing.assert_allclose((palette**2).sum(), 1, atol=1e-5)
    np.testing.assert_allclose((palette**2)[-1], 0.75, atol=1e-5, err_msg="white")
    assert (np.concatenate([top, bottom, left, right]) == 0).all(), "it reaches into no margin"
    images[0, :8] = 0
    assert (manner(images)[0][512:516] == 1).all()


def test_a_perfect_model_scores_what_the_reader_can_read(data: EmojiStylesDataset) -> None:
    config = StylesConfig()
    figures = EmojiStylesMetric(config, None).evaluate(evaluation(data))
    assert set(figures) == set(config.names())
    for name in ("both_right", "concept_right", "style_right", "caption_right", "caption_concept", "caption_style"):
        assert figures[name] == 1.0, name
    assert figures["ceiling_both"] >= 0.9


def test_the_floors_are_what_can_be_had_for_nothing(data: EmojiStylesDataset) -> None:
    figures = EmojiStylesMetric(StylesConfig(), None).evaluate(evaluation(data))
    assert figures["copied_both"] <= figures["copied_style"] <= 0.05, "a copy has the style that it was copied from"
    assert 0.2 < figures["copied_concept"] < 1
    truth = evaluation(data).samples.truth
    means = mean_drawings(data)
    assert means.shape == (4, 32, 32, 3)
    trained = sorted({n for n, s, _ in data.gallery.items["train"] if s == 2})
    np.testing.assert_allclose(means[2], data.gallery.images[2][trained].mean(0), atol=0.51)
    of_means = EmojiStylesMetric(StylesConfig(), None).evaluate(evaluation(data, generated=means[truth.styles]))
    for what in ("concept", "style", "both"):
        assert figures[f"mean_{what}"] == of_means[f"{what}_right"]


def test_copies_are_measured_as_a_model_that_copies_would_be(data: EmojiStylesDataset) -> None:
    truth, metric = evaluation(data).samples.truth, EmojiStylesMetric(StylesConfig(), None)
    copies = [data.gallery.images[(truth.styles + turn) % 4, truth.concepts] for turn in (1, 2, 3)]
    found = [metric.evaluate(evaluation(data, generated=images))["concept_right"] for images in copies]
    assert metric.evaluate(evaluation(data))["copied_concept"] == pytest.approx(np.mean(found))


def test_a_caption_has_to_name_thing_and_style_in_the_language_asked_for(data: EmojiStylesDataset) -> None:
    truth = evaluation(data).samples.truth
    names = [data.gallery.concepts[n].names for n in truth.concepts.tolist()]
    metric = EmojiStylesMetric(StylesConfig(), None)

    def figures(style: int = 0, language: str = "", name: str = "") -> list[float]:
        captions = []
        for place, code in enumerate(truth.languages):
            said = language or code
            captions.append(write(name or names[place][said], STYLES[(int(truth.styles[place]) + style) % 4], said))
        found = metric.evaluate(evaluation(data, read=captions))
        return [found[key] for key in ("caption_right", "caption_concept", "caption_style")]

    english = truth.languages.count("en") / len(truth.languages)
    assert figures() == [1, 1, 1]
    assert figures(style=1) == [0, 1, 0]
    assert figures(name="banana") == [0, 0, 1]
    assert figures(language="en") == pytest.approx([english] * 3)
    marks = metric.marks(evaluation(data, read=["?"] * len(truth.languages)))
    assert not marks["caption"].any() and marks["drawing"].all()


def test_styles_have_their_own_rows(data: EmojiStylesDataset) -> None:
    panel = next(iter(EmojiStylesMetric(StylesConfig(), None).panels(evaluation(data))))
    assert [row[0] for row in panel.rows] == list(STYLES)
    assert panel.header == ("style", "items", "concept right", "style right", "both right", "captions right")


def test_a_model_that_only_draws_is_measured_without_captions(data: EmojiStylesDataset) -> None:
    config = StylesConfig(captions=False)
    assert config.needs() == {"data.pairs", "text_encoder", "image_decoder"}
    metric = EmojiStylesMetric(config, None)
    found = metric.evaluate(evaluation(data, read=None))
    assert set(found) == set(config.names()) and "caption_right" not in found
    assert set(metric.marks(evaluation(data, read=None))) == {mark.name for mark in config.marks()} == {"drawing"}


def test_another_dataset_is_refused(data: EmojiStylesDataset) -> None:
    with pytest.raises(ValueError, match="use it, or leave it out"):
        EmojiStylesMetric(StylesConfig(), None).evaluate(evaluation(data, dataset=object()))


@pytest.mark.slow
def test_a_model_is_trained_and_measured_and_credits_the_artists(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    sets = (
        "data.use=emoji_styles",
        f"data.path={FOLDER}",
        "data.languages=['en', 'de']",
        "data.crossing_validation=0.3",
        "tokenizers.text.size=128",
        "model.text_decoder.languages=['en', 'de']",
        "metrics={scene=false, caption_facts=false, round_trip=false, emoji_styles={use='emoji_styles'}}",
        "trackers.tensorboard=false",
        *(f"stages.{stage}={{steps=2, validate={{every=2, items=4}}}}" for stage in ("text", "image", "joint")),
        "stages.image.validate.figure=caption_right",
        "evaluation={splits=['train', 'crossing', 'concept'], items=8}",
    )
    run = tmp_path / "run"
    assert main(["run", str(TINY), "--run-dir", str(run), *(word for one in sets for word in ("--set", one))]) == 0
    assert "items are left out of language" in (run / "run.json").read_text(encoding="utf-8")
    results = json.loads((run / "results.json").read_text(encoding="utf-8"))
    assert {f"{split}/{name}" for split in ("train", "crossing", "concept") for name in StylesConfig().names()} <= set(results)
    assert results["crossing/copied_both"] <= results["crossing/copied_concept"]
    for file in (run / "model" / "ATTRIBUTION.md", run / "report.html"):
        credit = file.read_text(encoding="utf-8")
        assert all(artist in credit for artist in ("Google Inc", "Twitter", "Microsoft Corporation", "OpenMoji", "CC BY-SA 4.0"))
    assert (
        main(
            [
                "run",
                str(TINY),
                "--set",
                "data.use=emoji_styles",
                "--set",
                f"data.path={tmp_path}",
                *(w for s in sets[2:] for w in ("--set", s)),
            ]
        )
        == 2
    )
    assert "npm pack @iconify-json/noto@1.2.9" in capsys.readouterr().err
