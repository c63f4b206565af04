"""What a recipe's data must give, paired and unpaired, is known before any of it is made."""

from __future__ import annotations

from pathlib import Path

import pytest
from ibllm_inspect.differences import differences

from ibllm_core.recipe import load
from ibllm_core.recipe.locate import RecipeErrors

UNPAIRED = Path(__file__).parents[1] / "training" / "unpaired.toml"

#: Data of images alone, and no stage with losses of pairs.
ALONE = """
[data]
use = "files"
path = "x"
holds = "images"
size = 32
[evaluation]
splits = ["test"]
[losses]
matching = false
damsm = false
[stages]
together = false
[stages.alone.validate]
split = "validation"
"""

#: Losses and metrics of a stranger that ask for data.
SPECS = """
from ibllm_core.host.hookspecs import hookimpl
from ibllm_core.host.spec import ComponentSpec

@hookimpl
def ibllm_components():
    return [
        ComponentSpec("loss", "quiz", "stranger.parts:Quiz", "stranger.config:QuizConfig", "a test's"),
        ComponentSpec("metric", "silent", "stranger.parts:Silent", "stranger.config:SilentConfig", "a test's"),
        ComponentSpec("metric", "pixels", "stranger.parts:Pixels", "stranger.config:PixelsConfig", "a test's"),
    ]
"""
CONFIG = """
import attrs
from ibllm.figures import Figure
from ibllm_core.host.options import LossConfig, MetricConfig

@attrs.frozen(kw_only=True)
class QuizConfig(LossConfig):
    def needs(self):
        return frozenset({"image_encoder", "data.questions"})

@attrs.frozen(kw_only=True)
class SilentConfig(MetricConfig):
    def figures(self):
        return (Figure("silence"),)

class PixelsConfig(SilentConfig):
    def needs(self):
        return frozenset({"data.images"})
"""


def mistakes(tmp_path: Path, text: str, *sets: str) -> str:
    recipe = tmp_path / "mine.toml"
    (tmp_path / "x").touch()
    recipe.write_text(f'format = 1\nextends = "{UNPAIRED}"\n{text}', encoding="utf-8")
    with pytest.raises(RecipeErrors) as caught:
        load(recipe, sets)
    return str(caught.value).replace(f"{tmp_path}/", "").replace(str(UNPAIRED), "unpaired.toml")


def test_unpaired_tables_are_part_of_the_recipe(tmp_path: Path) -> None:
    recipe = load(UNPAIRED)
    assert {path: str(c) for path, c in recipe.components().items() if path.startswith("unpaired")} == {
        "unpaired.text": "dataset.shapes",
        "unpaired.images": "dataset.shapes",
    }
    (tmp_path / "again.toml").write_text(recipe.source, encoding="utf-8")
    again = load(tmp_path / "again.toml")
    assert again == recipe and again.source == recipe.source and not differences(recipe, again)


def test_a_table_of_unpaired_data_is_removed_like_a_part() -> None:
    whole, less = load(UNPAIRED), load(UNPAIRED, ["unpaired.text=false", "unpaired.images.train_size=7"])
    assert set(less.unpaired) == {"images"}
    found = differences(whole, less)
    assert [line for line in found if line.startswith("unpaired.text: removed: shapes {")]
    assert "unpaired.images.train_size: 1000000 → 7" in found


def test_another_table_is_unknown(tmp_path: Path) -> None:
    told = mistakes(tmp_path, '[unpaired.texts]\nuse = "shapes"\n')
    assert "mine.toml:3: unpaired.texts: unknown key\n    expected: one of text, images\n    did you mean: text" in told


def test_images_are_of_one_shape(tmp_path: Path) -> None:
    assert (
        "mine.toml:5: unpaired.images.size: its images are (c h w) = (3, 64, 64), those of the main data (3, 32, 32)\n"
        "    expected: images of one shape; [data] is shapes (unpaired.toml:7)\n    provided by: dataset.shapes of ibllm "
    ) in mistakes(tmp_path, '[unpaired.images]\nuse = "shapes"\nsize = 64\n')


def test_a_table_gives_what_it_is_there_for(tmp_path: Path) -> None:
    told = mistakes(tmp_path, '[unpaired.text]\nuse = "files"\npath = "x"\nholds = "images"\n')
    assert (
        "mine.toml:4: unpaired.text.use: files gives no captions as it stands\n    expected: options with which it does, or use = " in told
    )
    assert '"shapes"' in told.splitlines()[3]


def test_losses_of_pairs_are_refused_where_there_are_none(tmp_path: Path) -> None:
    told = mistakes(tmp_path, '[data]\nuse = "files"\npath = "x"\nholds = "images"\nsize = 32\n', 'evaluation.splits=["test"]')
    assert "losses.matching.use: matching needs data.pairs, which files (mine.toml:4) does not provide" in told
    assert "masked_text" not in told, "its captions are the unpaired ones"
    assert 'expected: [data] with use = "' in told and '"shapes"' in told


def test_losses_of_captions_are_refused_where_there_are_none(tmp_path: Path) -> None:
    told = mistakes(tmp_path, '[data]\nuse = "files"\npath = "x"\nholds = "images"\nsize = 32\n[unpaired]\ntext = false\n')
    assert "losses.masked_text.use: masked_text needs data.captions, which files (mine.toml:4) does not provide" in told
    assert ", or a table [unpaired.text]\n" in told and "masked_image" not in told


def test_the_option_that_would_give_it_is_named(tmp_path: Path, stranger_of_data: None) -> None:
    text = '[losses.quiz]\nuse = "quiz"\n[stages.together]\nlosses = { quiz = 1.0 }\n'
    told = mistakes(tmp_path, text)
    assert "mine.toml:4: losses.quiz.use: quiz needs data.questions, which shapes (unpaired.toml:7) does not provide" in told
    assert "    expected: data.questions = true\n" in told
    assert "quiz" in load(tmp_path / "mine.toml", ["data.questions=true"]).losses


def test_a_metric_that_says_nothing_of_data_needs_pairs(tmp_path: Path, stranger_of_data: None) -> None:
    told = mistakes(tmp_path, ALONE + '[metrics]\nsilent = { use = "silent" }\npixels = { use = "pixels" }\n')
    assert "metrics.silent.use: silent needs data.pairs" in told and "1 mistake;" in told


def test_a_stage_that_watches_its_loss_has_held_out_captions(tmp_path: Path) -> None:
    told = mistakes(tmp_path, ALONE + '[unpaired.text]\nuse = "openmoji"\n')
    what = 'the stage watches its own loss, but [unpaired.text] has no split "validation", and the data no captions'
    assert f"mine.toml:17: stages.alone.validate.split: {what}\n" in told and "1 mistake;" in told


@pytest.fixture
def stranger_of_data(site, monkeypatch: pytest.MonkeyPatch) -> None:  # type: ignore[no-untyped-def]
    from importlib import metadata

    from ibllm_core.host import manager as plugins
    from ibllm_core.host.entry_points import PLUGINS
    from ibllm_core.host.manager import Manager

    site.install("stranger", {"stranger": "stranger.plugin"}, {"stranger.plugin": SPECS, "stranger.config": CONFIG})
    wanted = ("ibllm", "stranger")

    def manager(block: tuple[str, ...] = ()) -> Manager:
        return Manager(block, [point for point in metadata.entry_points(group=PLUGINS) if point.dist and point.dist.name in wanted])

    monkeypatch.setattr(plugins, "manager", manager)
