"""What a recipe resolves to: inheritance, overrides, removals, defaults, places."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from ibllm.resolved import resolved
from ibllm_core.host.manager import Manager
from ibllm_core.recipe import Recipe, RecipeErrors, load
from ibllm_core.recipe.document import Document
from ibllm_core.recipe.locate import Place
from ibllm_core.recipe.schema import SECTIONS, Init, Seeds

BASE = Path(__file__).parent / "bad" / "base.toml"


@pytest.fixture
def read(stranger: Manager, tmp_path: Path):  # type: ignore[no-untyped-def]
    """``read("extending text", "KEY=VALUE", …)``: a recipe that extends the good one."""

    def extend(text: str = "", *sets: str, seed: int | None = None) -> Recipe:
        path = tmp_path / "child.toml"
        path.write_text(f'extends = "{BASE.as_posix()}"\n{text}', encoding="utf-8")
        return load(path, sets, seed, stranger)

    return extend


def test_what_is_not_said_has_its_default(read):
    recipe = read()
    assert recipe.name == "child"
    assert recipe.seed == Seeds(init=0, data=0, evaluation=0)
    assert recipe.parts["text_encoder"].config.tokenizer == "text"
    assert recipe.stages["text"].schedule.use == "constant"
    assert recipe.stages["joint"].validate is None
    assert recipe.players["critic"].optimizer == recipe.players["model"].optimizer
    assert recipe.losses["penalty"].every == 4


def test_components_know_where_they_stand_and_who_provides_them(read):
    recipe = read(
        '[model.image_decoder]\nuse = "etching"\n[losses]\nadversarial = false\npenalty = false\n[model]\ndiscriminator = false\n'
    )
    decoder, data = recipe.parts["image_decoder"], recipe.data
    assert (Path(decoder.place.file).name, decoder.place.line, decoder.place.key) == ("child.toml", 3, "model.image_decoder")
    assert (decoder.distribution, decoder.version) == ("stranger", "2.1")
    assert (Path(data.place.file), data.place.line, data.distribution) == (BASE, 7, "ibllm")
    assert recipe.components()["model.image_decoder"] is decoder


def test_tables_merge_key_by_key(read):
    recipe = read("[stages.text]\nsteps = 30\n[stages.text.losses]\nimage_nll = 2\n[optimizer]\nlr = 0.5\n")
    assert recipe.stages["text"].steps == 30
    assert recipe.stages["text"].train == ("text_encoder", "image_decoder")
    assert recipe.stages["text"].losses == {"image_nll": 2.0}
    assert (recipe.players["model"].optimizer.use, recipe.players["model"].optimizer.config.lr) == ("adamw", 0.5)


def test_a_table_whose_component_changes_is_replaced_whole(read):
    recipe = read('[optimizer]\nuse = "sgd"\nmomentum = 0.5\n', "losses.penalty.use=gradient_penalty", "model.image_decoder.depth=1")
    assert recipe.players["model"].optimizer.config.lr == 0.1  # sgd's own default, not what the base may say of adamw
    assert recipe.losses["penalty"].every == 4  # the same component again changes nothing
    changed = read("", "losses.penalty.use=relativistic")
    assert changed.losses["penalty"].every == 1


@pytest.mark.parametrize("sets", [("optimizer.use=sgd", "optimizer.momentum=0.25"), ("optimizer.momentum=0.25", 'optimizer={use="sgd"}')])
def test_the_order_of_overrides_does_not_matter(read, sets):
    first, second = read("", *sets), read("", *reversed(sets))
    assert first.players["model"].optimizer.config.momentum == 0.25
    assert resolved(first) == resolved(second)


@pytest.mark.parametrize(
    ("override", "value"),
    [
        ("name=plain", "plain"),
        ('name="quoted"', "quoted"),
        ("name=a = b", "a = b"),
        ("name = spaced ", "spaced"),
        ("name=true story", "true story"),
    ],
)
def test_a_value_that_is_no_toml_is_a_string(read, override, value):
    assert read("", override).name == value


def test_keys_with_dots_are_quoted(read):
    recipe = read(
        'order = ["text", "image", "joint", "v1.5"]\n[stages."v1.5"]\nsteps = 1\nlosses = { joint = 1 }\n', 'stages."v1.5".steps=7'
    )
    assert recipe.stages["v1.5"].steps == 7


def test_an_override_is_named_where_it_matters(read):
    with pytest.raises(RecipeErrors) as caught:
        read("", "stages.joint.steps=1.5")
    (mistake,) = caught.value.mistakes
    assert (str(mistake.place), mistake.place.key) == ("--set stages.joint.steps=1.5", "stages.joint.steps")


def test_an_override_that_is_a_table_is_named_for_its_keys(read):
    with pytest.raises(RecipeErrors) as caught:
        read("", "stages.joint={steps=1.5}")
    (mistake,) = caught.value.mistakes
    assert (str(mistake.place), mistake.place.key) == ("--set stages.joint={steps=1.5}", "stages.joint.steps")


def test_the_last_of_two_overrides_of_one_key_counts_whole(read):
    recipe = read("", 'optimizer={use="adam",betas=[0,0.9]}', 'optimizer={use="sgd"}')
    assert recipe.players["model"].optimizer.use == "sgd"


def test_what_is_put_into_a_document_stays_as_its_owner_has_it():
    table, place = {"a": 1}, Place(file="study.toml", line=1, key="data")
    document = Document(file="study.toml")
    document.put(("data",), table, place)
    document.put(("data", "a"), 2, place)
    assert (document.data, table) == ({"data": {"a": 2}}, {"a": 1})


def test_false_takes_a_loss_out_of_every_stage(read):
    recipe = read("[losses]\nadversarial = false\npenalty = false\n[model]\ndiscriminator = false\n")
    assert set(recipe.losses) == {"image_nll", "text_nll", "joint"}
    assert {loss for stage in recipe.stages.values() for loss in stage.losses} == {"image_nll", "text_nll", "joint"}
    assert recipe.stages["image"].train == ("image_encoder", "text_decoder", "image_decoder")
    assert set(recipe.players) == {"model"}


def test_false_takes_away_a_metric_and_a_stage(read):
    recipe = read('metrics.counted = false\nstages.joint = false\nlosses.joint = false\nstages.image.validate.figure = ""\n')
    assert recipe.order == ("text", "image")
    assert recipe.metrics == {}


def test_false_in_one_stage_leaves_the_loss_to_the_others(read):
    recipe = read("", "stages.joint.losses.penalty=false")
    assert "penalty" not in recipe.stages["joint"].losses
    assert "penalty" in recipe.stages["image"].losses


def test_a_heir_can_bring_back_what_its_parent_took_away(read, tmp_path, stranger):
    read("[losses]\npenalty = false\n")
    heir = tmp_path / "heir.toml"
    heir.write_text('extends = "child.toml"\n[losses.penalty]\nuse = "gradient_penalty"\n')
    assert load(heir, manager=stranger).stages["joint"].losses["penalty"] == 1.0


def test_seeds(read):
    assert read("seed = 7\n").seed == Seeds(init=7, data=7, evaluation=7)
    assert read("seed = 7\n", "seed.init=1").seed == Seeds(init=1, data=7, evaluation=7)
    assert read("seed = { data = 3 }\n").seed == Seeds(init=0, data=3, evaluation=0)
    assert read("seed = 7\n", seed=9).seed == Seeds(init=9, data=9, evaluation=9)


def test_weights_can_be_ramps(read):
    recipe = read(
        "[losses.image_nll]\nweight = { from = 1, to = 2, over = 10 }\n[stages.text]\nlosses = { image_nll = { to = 3.0, over = 2 } }\n"
    )
    tables = resolved(recipe)
    assert tables["losses"]["image_nll"]["weight"] == {"from": 1.0, "to": 2.0, "over": 10}
    assert tables["stages"]["text"]["losses"]["image_nll"] == {"from": 0.0, "to": 3.0, "over": 2}
    assert [number.path for number in recipe.scheduled] == [("losses", "image_nll", "weight"), ("stages", "text", "losses", "image_nll")]


def test_a_stage_lays_its_own_training_over(read):
    recipe = read("[training]\nbatch = 32\nclip = 0.5\n[stages.text]\nbatch = 8\n")
    assert (recipe.stages["text"].training.batch, recipe.stages["text"].training.clip) == (8, 0.5)
    assert (recipe.stages["image"].training.batch, recipe.training.batch) == (32, 32)


def test_all_trains_every_part_but_an_idle_discriminator(read):
    assert read().stages["joint"].train == ("text_encoder", "image_decoder", "image_encoder", "text_decoder", "discriminator")
    alone = read("", "stages.joint.losses.penalty=false", "stages.joint.losses.adversarial=false")
    assert alone.stages["joint"].train == ("text_encoder", "image_decoder", "image_encoder", "text_decoder")


def test_the_critic_can_have_its_own_optimizer(read):
    recipe = read('[players.critic]\nevery = 2\n[players.critic.optimizer]\nuse = "adam"\nbetas = [0, 0.9]\n')
    assert recipe.players["critic"].every == 2
    assert recipe.players["critic"].optimizer.config.betas == (0.0, 0.9)


def test_a_part_from_another_run_need_not_be_trained(read, pretended_run, tmp_path):
    run = pretended_run(tmp_path / "first")
    recipe = read('[stages.text]\ntrain = ["text_encoder"]\n[model.image_decoder]\ninit = { run = "first" }\n')
    assert recipe.model.parts["image_decoder"].init == Init(run=str(run))


def test_a_byte_order_mark_and_windows_lines_are_read(tmp_path, stranger):
    path = tmp_path / "windows.toml"
    path.write_bytes(b"\xef\xbb\xbf" + BASE.read_bytes().replace(b"\n", b"\r\n"))
    assert load(path, manager=stranger).stages["joint"].place.line == 57


def test_widths_and_latents_are_filled_in(read):
    tables = resolved(read("[model.text_encoder]\nwidth = 96\n"))["model"]
    assert (tables["text_encoder"]["width"], tables["image_encoder"]["width"]) == (96, 64)
    assert (tables["image_decoder"]["latent"], tables["text_decoder"]["latent"], tables["discriminator"]["latent"]) == (96, 64, 96)


def test_reading_recipes_imports_no_torch():
    script = (
        "import sys; from ibllm_core.recipe import load; import ibllm_inspect.check, ibllm_inspect.diff; assert 'torch' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", script], check=True)


def test_an_iteration_is_played_as_ever_unless_a_recipe_says_otherwise(read):
    recipe = read()
    assert {name: str(stage.procedure) for name, stage in recipe.stages.items()} == dict.fromkeys(recipe.stages, "procedure.alternate")
    assert recipe.components()["stages.joint.procedure"] == recipe.stages["joint"].procedure
    said = read('[procedure]\nuse = "alternate"\n[stages.text.procedure]\nuse = "alternate"\n')
    assert resolved(said) == resolved(recipe), "runs without the key keep theirs"
    assert "procedure" not in recipe.source and "[stages.text.procedure]" in said.source


def test_a_procedure_that_does_not_exist_is_told_where_it_stands(read):
    with pytest.raises(RecipeErrors, match=r'child.toml:3: stages.text.procedure.use: no procedure is called "alternatly"'):
        read('[stages.text.procedure]\nuse = "alternatly"\n')


def test_splits_that_a_recipe_does_not_name_are_its_datas(read):
    assert (read().stages["image"].validate.split, read().evaluation.splits) == ("novel-validation", ("test", "novel"))
    other = read('[data]\nuse = "openmoji"\n[tokenizers.text]\nuse = "word"\n')
    assert (other.stages["image"].validate.split, other.evaluation.splits) == ("tone-validation", ("tone", "concept"))
    named = read('[stages.image.validate]\nsplit = "validation"\n[evaluation]\nsplits = ["novel"]\n')
    assert (named.stages["image"].validate.split, named.evaluation.splits) == ("validation", ("novel",))
    assert resolved(named)["stages"]["image"]["validate"]["split"] == "validation"


def test_every_table_stands_in_the_resolved_text_in_the_order_of_its_declaration(read):
    source = read('[unpaired.text]\nuse = "shapes"\n[procedure]\nuse = "alternate"\n[plugins]\nblock = []\n').source
    found = list(dict.fromkeys(line.strip("[]").split(".")[0] for line in source.splitlines() if line.startswith("[")))
    assert found == [section.name for section in SECTIONS if section.name in found]
    assert {"plugins", "data", "unpaired", "procedure", "stages"} <= set(found)
