"""The plugin manager: what works is offered, what does not is a row with its reason, and the message names whom to blame."""

from __future__ import annotations

import pytest

from ibllm_core.host import attribution
from ibllm_core.host.entry_points import BLOCK
from ibllm_core.host.manager import PluginError, UnknownComponent, manager


def test_a_strangers_component_is_offered_with_its_provenance(site, source):
    site.install("stranger", {"own": "stranger_own"}, {"stranger_own": source(name="mine")}, version="2.5")
    found = site.manager()
    assert found.get("loss", "mine").summary == "a test's"
    assert str(found.origin("loss", "mine")) == "stranger==2.5"
    assert found.names("loss") == ("mine",)
    [row] = found.rows()
    assert (row.kind, row.name, row.distribution, row.version, row.status, row.error) == ("loss", "mine", "stranger", "2.5", "ok", "")


def test_a_broken_import_is_a_row_and_hides_nothing_else(site, source):
    site.install("aaa", {"aaa": "aaa_plugin"}, {"aaa_plugin": "x = 1\nraise RuntimeError('no such card')\n"})
    site.install("zzz", {"zzz": "zzz_plugin"}, {"zzz_plugin": source(name="fine")})
    found = site.manager()
    assert found.get("loss", "fine")
    broken = next(row for row in found.rows() if row.status == "error")
    assert (broken.kind, broken.name, broken.distribution) == ("", "aaa", "aaa")
    assert broken.error.startswith("RuntimeError: no such card (")
    assert broken.error.endswith("aaa_plugin.py:2)")


@pytest.mark.parametrize(
    ("module", "error"),
    [
        ("import not_installed_anywhere\n", "ModuleNotFoundError: No module named 'not_installed_anywhere' ("),
        ("def oops(:\n", "SyntaxError: "),
        ("import sys; sys.exit('bye')\n", "SystemExit: bye ("),
        ("", "broken_plugin implements no hook (is @hookimpl missing?)"),
        (
            "from ibllm_core.host.hookspecs import hookimpl\n@hookimpl\ndef ibllm_components(manager): return []\n",
            "broken_plugin: Plugin 'broken' for hook 'ibllm_components'",
        ),
        (
            "from ibllm_core.host.hookspecs import hookimpl\n@hookimpl\ndef ibllm_components(): return None\n",
            "broken_plugin: ibllm_components gave None, expected",
        ),
        (
            "from ibllm_core.host.hookspecs import hookimpl\n@hookimpl\ndef ibllm_components(): return ['x']\n",
            "broken_plugin: ibllm_components gave 'x'",
        ),
        (
            "from ibllm_core.host.hookspecs import hookimpl\n@hookimpl\ndef ibllm_components(): yield 1 / 0\n",
            "ZeroDivisionError: division by zero (",
        ),
    ],
)
def test_whatever_a_plugin_does_wrong_is_its_own_row(site, module, error):
    site.install("broken", {"broken": "broken_plugin"}, {"broken_plugin": module})
    [row] = site.manager().rows()
    assert row.status == "error"
    assert row.error.startswith(error)


def test_an_entry_point_to_a_module_that_is_not_there(site):
    site.install("gone", {"gone": "gone_plugin"}, {})
    [row] = site.manager().rows()
    assert row.error == "ModuleNotFoundError: No module named 'gone_plugin'"


def test_a_misspelt_hook_is_named(site):
    module = "from ibllm_core.host.hookspecs import hookimpl\n@hookimpl\ndef ibllm_componets():\n    return []\n"
    site.install("typo", {"typo": "typo_plugin"}, {"typo_plugin": module})
    [row] = site.manager().rows()
    assert row.error == (
        "typo_plugin implements an unknown hook 'ibllm_componets'; did you mean 'ibllm_components'? "
        "If a newer ibllm has it, upgrade ibllm or mark it @hookimpl(optionalhook=True)"
    )


def test_a_hook_of_another_ibllm_may_be_optional(site, source):
    hook = "\n@hookimpl(optionalhook=True)\ndef ibllm_of_the_future(recipe, something_new):\n    pass\n"
    site.install("both", {"both": "both_plugin"}, {"both_plugin": source(name="fine") + hook})
    site.install("only", {"only": "only_plugin"}, {"only_plugin": "from ibllm_core.host.hookspecs import hookimpl\n" + hook})
    assert [(row.distribution, row.status, row.hooks) for row in site.manager().rows()] == [("both", "ok", ()), ("only", "ok", ())]


@pytest.mark.parametrize(
    ("field", "value", "expected"),
    [
        ("factory", "None", "a string"),
        ("kind", "['loss']", "a string"),
        ("summary", "None", "a string"),
        ("name", "5", "a string"),
        ("config", "''", "a string"),
        ("api", "True", "an integer"),
    ],
)
def test_a_spec_with_a_field_of_the_wrong_type_is_its_plugins_row(site, source, field, value, expected):
    spec = {"kind": "'loss'", "name": "'bad'", "factory": "'m:F'", "config": "'m:C'", "summary": "'s'", "api": "1"} | {field: value}
    module = (
        "from ibllm_core.host.hookspecs import hookimpl\nfrom ibllm_core.host.spec import ComponentSpec\n@hookimpl\ndef ibllm_components():\n"
        f"    return [ComponentSpec({', '.join(f'{name}={text}' for name, text in spec.items())})]\n"
    )
    site.install("bad", {"bad": "bad_plugin"}, {"bad_plugin": module}, version="0.4")
    site.install("good", {"good": "good_plugin"}, {"good_plugin": source(name="fine")})
    found = site.manager()
    assert found.names("loss") == ("fine",)
    [row] = [row for row in found.rows() if row.distribution == "bad"]
    assert (row.status, row.version) == ("error", "0.4")
    assert f"with {field} = {eval(value)!r}, expected {expected}" in row.error
    assert "upgrade or uninstall bad" in row.remedy


def test_one_component_from_two_distributions_is_had_from_neither(site, source):
    site.install("first", {"one": "first_plugin"}, {"first_plugin": source(name="same")}, version="1.1")
    site.install("second", {"two": "second_plugin"}, {"second_plugin": source(name="same")}, version="2.2")
    found = site.manager()
    with pytest.raises(
        PluginError, match=r"more than one plugin offers it: first==1\.1 \(first_plugin\) and second==2\.2 \(second_plugin\)"
    ):
        found.get("loss", "same")
    assert [(row.status, row.remedy) for row in found.rows()] == [("error", "block or uninstall all but one")] * 2
    assert found.names("loss") == ()
    assert str(site.manager(block=("two",)).origin("loss", "same")) == "first==1.1"


def test_one_plugin_name_from_two_distributions_loads_neither(site, source):
    site.install("first", {"same": "first_plugin"}, {"first_plugin": source(name="a")})
    site.install("second", {"same": "second_plugin"}, {"second_plugin": source(name="b")})
    found = site.manager()
    assert found.names("loss") == ()
    message = "the plugin name 'same' is registered by first==1.0 (first_plugin) and second==1.0 (second_plugin)"
    assert [row.error for row in found.rows()] == [message, message]
    assert {row.remedy for row in found.rows()} == {"uninstall all but one (IBLLM_BLOCK=same leaves all out)"}


def test_a_component_that_a_clash_of_plugin_names_took_away_is_told_with_the_clash(site, source):
    site.install("first", {"same": "first_plugin"}, {"first_plugin": source(name="a")})
    site.install("second", {"same": "second_plugin"}, {"second_plugin": source(name="b")})
    with pytest.raises(UnknownComponent) as caught:
        site.manager().get("loss", "a")
    message = str(caught.value)
    assert message.startswith("no loss is called 'a'. No plugin offers any loss. The plugin 'same' might have it, but is broken: ")
    clash = "the plugin name 'same' is registered by first==1.0 (first_plugin) and second==1.0 (second_plugin); uninstall all but one"
    assert clash in message
    site.install("broken", {"broken": "broken_plugin"}, {"broken_plugin": "1 / 0"})
    with pytest.raises(UnknownComponent, match=r"no loss is called 'a'\. .*failed to load \(see `ibllm plugins`\): broken, same\."):
        site.manager().get("loss", "a")


def test_a_component_twice_in_one_plugin(site, source):
    module = source(name="same").rstrip() + " * 2\n"
    site.install("twice", {"twice": "twice_plugin"}, {"twice_plugin": module})
    with pytest.raises(PluginError, match=r"more than one plugin offers it: twice==1\.0"):
        site.manager().get("loss", "same")


def test_a_newer_interface_is_refused_by_name(site, source):
    site.install("future", {"future": "future_plugin"}, {"future_plugin": source(name="late", api=2)}, version="9")
    found = site.manager()
    message = r"loss\.late cannot be used: future==9 was written for version 2 of the plugin interface, this ibllm speaks 1; upgrade ibllm"
    with pytest.raises(PluginError, match=message):
        found.get("loss", "late")
    assert (found.rows()[0].status, found.rows()[0].remedy) == ("error", "upgrade ibllm")


def test_an_unknown_kind_is_named_with_the_nearest(site, source):
    site.install("odd", {"odd": "odd_plugin"}, {"odd_plugin": source(kind="los", name="x")})
    [row] = site.manager().rows()
    assert row.status == "error"
    assert row.error == "odd==1.0 gives it the unknown kind 'los'; did you mean 'loss'?"
    assert row.remedy == "upgrade or uninstall odd, or leave the plugin out with IBLLM_BLOCK=odd"


def test_a_factory_that_is_no_path(site, source):
    site.install("odd", {"odd": "odd_plugin"}, {"odd_plugin": source(factory="odd.f")})
    with pytest.raises(PluginError, match=r"odd==1\.0 gives it the factory 'odd\.f'; expected 'module:name'"):
        site.manager().get("loss", "mine")


def test_a_blocked_plugin_is_not_imported(site, source, tmp_path):
    witness = tmp_path / "loaded"
    site.install("shy", {"shy": "shy_plugin"}, {"shy_plugin": source() + f"\nopen({str(witness)!r}, 'w').close()\n"})
    found = site.manager(block=("shy", "shi"))
    [row] = found.rows()
    assert (row.name, row.status, row.error) == ("shy", "blocked", "blocked, not loaded")
    assert not witness.exists()
    assert found.unmatched_blocks() == ("shi",)
    with pytest.raises(UnknownComponent, match=r"Plugins that are blocked \(by IBLLM_BLOCK or by the recipe\): shy\."):
        found.get("loss", "mine")


def test_the_environment_and_the_recipe_both_block(site, source, monkeypatch):
    site.install("a", {"test-a": "a_plugin"}, {"a_plugin": source(name="a")})
    site.install("b", {"test-b": "b_plugin"}, {"b_plugin": source(name="b")})
    monkeypatch.setenv(BLOCK, " test-a , ")
    status = {row.plugin: row.status for row in manager(("test-b",)).rows()}
    assert (status["test-a"], status["test-b"]) == ("blocked", "blocked")
    assert manager(("test-b",)) is manager(["test-b"])


def test_an_unknown_name_gets_the_nearest_and_the_list(site, source):
    site.install("one", {"one": "one_plugin"}, {"one_plugin": source(name="gradient_penalty")})
    site.install("two", {"two": "two_plugin"}, {"two_plugin": source(name="cycle")})
    with pytest.raises(UnknownComponent) as caught:
        site.manager().get("loss", "gradient-penality")
    assert (
        str(caught.value) == "no loss is called 'gradient-penality'; did you mean 'gradient_penalty'? There are: cycle, gradient_penalty."
    )
    assert (caught.value.known, caught.value.hints) == (("cycle", "gradient_penalty"), ())


def test_an_unknown_name_shows_the_broken_plugin_that_might_have_it(site):
    site.install("broken", {"wave": "wave_plugin"}, {"wave_plugin": "import nothing_like_it"}, version="3")
    site.install("other", {"other": "other_plugin"}, {"other_plugin": "1 / 0"})
    with pytest.raises(UnknownComponent) as caught:
        site.manager().get("dataset", "wave")
    assert str(caught.value).startswith(
        "no dataset is called 'wave'. No plugin offers any dataset. The plugin 'wave' might have it, but is broken: broken==3: Mod"
    )
    assert str(caught.value).endswith("Plugins that failed to load (see `ibllm plugins`): other.")


def test_the_only_broken_plugin_is_always_shown(site):
    site.install("broken", {"wave": "wave_plugin"}, {"wave_plugin": "1 / 0"})
    with pytest.raises(
        UnknownComponent, match=r"The plugin 'wave' might have it, but is broken: broken==1\.0: ZeroDivisionError: division by zero"
    ):
        site.manager().get("dataset", "something")


CONFIG = "import attrs\nfrom ibllm_core.host.options import Config\n@attrs.frozen(kw_only=True)\nclass C(Config):\n    pass\n"


def test_config_and_factory_are_imported_when_asked_for(site, source):
    modules = {
        "good_plugin": source(factory="good_parts:make", config="good_config:C"),
        "good_config": CONFIG,
        "good_parts": "def make(c, x): return c",
    }
    site.install("good", {"good": "good_plugin"}, modules)
    found = site.manager()
    assert found.config_class("loss", "mine").__name__ == "C"
    assert found.factory("loss", "mine")(1, 2) == 1


@pytest.mark.parametrize(
    ("config", "message"),
    [
        (
            "bad_config:C",
            r"bad==1\.0: the config of loss\.mine, bad_config:C, cannot be imported: "
            r"ModuleNotFoundError: No module named 'nothing_like_it' \(.*bad_config\.py:1\)",
        ),
        ("bad_parts:D", r"bad==1\.0: the config of loss\.mine, bad_parts:D, cannot be imported: AttributeError: .*has no attribute 'D'"),
        (
            "bad_parts:make",
            r"bad==1\.0: the config of loss\.mine, bad_parts:make, is no class deriving from ibllm_core\.host\.options\.Config",
        ),
    ],
)
def test_a_config_that_fails_blames_its_distribution(site, source, config, message):
    modules = {"bad_plugin": source(config=config), "bad_config": "import nothing_like_it", "bad_parts": "make = 1"}
    site.install("bad", {"bad": "bad_plugin"}, modules)
    with pytest.raises(PluginError, match=message):
        site.manager().config_class("loss", "mine")


def test_a_factory_that_fails_blames_its_distribution(site, source):
    site.install("bad", {"bad": "bad_plugin"}, {"bad_plugin": source(factory="bad_parts:make"), "bad_parts": "make = 1"})
    with pytest.raises(PluginError, match=r"bad==1\.0: the factory of loss\.mine, bad_parts:make, cannot be called"):
        site.manager().factory("loss", "mine")


def test_what_plugins_print_does_not_reach_stdout(site, source, capsys):
    site.install("loud", {"loud": "loud_plugin"}, {"loud_plugin": "print('hello')\n" + source()})
    assert site.manager().get("loss", "mine")
    captured = capsys.readouterr()
    assert (captured.out, captured.err) == ("", "[loud==1.0] hello\n")


def test_what_takes_long_to_import_is_said_once_and_waited_for(site, source, capsys, monkeypatch):
    monkeypatch.setattr(attribution, "PATIENCE", 0.05)
    modules = {
        "slow_plugin": "import time\ntime.sleep(0.5)\n" + source(factory="slow_parts:make"),
        "slow_parts": "import time\ntime.sleep(0.5)\ndef make(): ...",
    }
    site.install("slow", {"dawdler": "slow_plugin"}, modules, version="0.9")
    found = site.manager()
    assert found.factory("loss", "mine").__name__ == "make"
    assert capsys.readouterr() == ("", "still importing slow_plugin from slow 0.9\nstill importing slow_parts:make from slow 0.9\n")


def test_half_removed_metadata_breaks_nothing(site, source):
    site.install("half", {"half": "half_plugin"}, {"half_plugin": source()})
    [info] = site.folder.glob("*.dist-info")
    (info / "METADATA").unlink()
    from importlib import metadata

    from ibllm_core.host.entry_points import PLUGINS
    from ibllm_core.host.manager import Manager

    found = Manager(entry_points=[point for point in metadata.entry_points(group=PLUGINS) if point.name == "half"])
    assert str(found.origin("loss", "mine")) == "unknown==unknown"
