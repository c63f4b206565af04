"""What every component is asked, whatever its kind; and how a suite makes the component that it tests.

A suite is a class; a test is a subclass that names a component:

    class TestBag(TextEncoderSuite):
        component = "bag"
        options = {"keep": 0.9}
"""

from __future__ import annotations

import functools
import os
import subprocess
import sys
import tomllib
from collections.abc import Callable, Collection, Iterator, Mapping
from importlib import metadata
from types import MappingProxyType
from typing import Any, ClassVar

import attrs
import pytest
import torch

from ibllm.capabilities import CAPABILITIES
from ibllm.resolved import options as plain_options
from ibllm_core.errors import suggestion
from ibllm_core.host import manager as plugins
from ibllm_core.host.entry_points import PLUGINS
from ibllm_core.host.options import Config
from ibllm_core.host.spec import KINDS
from ibllm_core.interfaces.context import Context, ImageTokens
from ibllm_core.recipe.document import to_toml
from ibllm_core.recipe.draft import needs
from ibllm_core.recipe.words import Flaw, structure
from ibllm_inspect.options import options_of

from .checks import expect
from .fixtures import best_device
from .stand_ins import LetterTokenizer

#: Sizes of the surroundings: the width of parts that do not state theirs, the width of the latents that a part reads.
WIDTH, LATENT = 16, 12


#: How the reason of a check that was skipped by `Suite.excuses` begins.
EXCUSED = "excused: "


class Suite:
    """What is asked of every component: options, imports, capabilities.

    Attributes:
        component: its name, as after ``use =``.
        options: as in a recipe; what is left out keeps its default. Small sizes make quick tests.
        requires: modules (of an extra) without which the tests are skipped.
        excuses: name of a check → why the component cannot keep it. The check is skipped, and the reason is shown.
        image_shape: (c, h, w) of the images.
        shared: name → the table of a ``[model.shared.NAME]`` that the component borrows: ``{"tower": {"use": "transformer", "depth": 1}}``.
        once: checks that are asked once a component, whatever its options: a variant of it (`cover`) is not asked again.
    """

    kind: ClassVar[str]
    component: str = ""
    options: Mapping[str, Any] = MappingProxyType({})
    requires: tuple[str, ...] = ()
    excuses: Mapping[str, str] = MappingProxyType({})
    image_shape: tuple[int, int, int] = (3, 32, 32)
    shared: Mapping[str, Mapping[str, Any]] = MappingProxyType({})
    once: ClassVar[frozenset[str]] = frozenset(
        {"test_an_unknown_option_is_refused", "test_every_option_says_what_it_means", "test_it_is_listed_without_torch"}
    )

    # How the component is made.

    def __init_subclass__(cls, **more: Any) -> None:
        """Raises `TypeError` for an excuse of a check that there is not, or without a reason."""
        super().__init_subclass__(**more)
        checks = [name for name in dir(cls) if name.startswith("test_")]
        for check, reason in cls.excuses.items():
            if check not in checks:
                raise TypeError(f"{cls.__name__}: excuses names {check!r}; {suggestion(check, checks)}")
            if not reason.strip():
                raise TypeError(f"{cls.__name__}: excuses gives no reason for {check}")

    @pytest.fixture(autouse=True)
    def _required(self, request: pytest.FixtureRequest) -> None:
        for module in self.requires:
            pytest.importorskip(module)
        if request.function.__name__ in self.excuses:
            pytest.skip(f"{EXCUSED}{self.excuses[request.function.__name__]}")

    @pytest.fixture
    def device(self) -> Iterator[torch.device]:
        """CUDA where there is one, else the CPU."""
        with best_device() as found:
            yield found

    def config_class(self) -> type[Config]:
        """The class of the component's options, as its package registers it."""
        assert self.component, f"{type(self).__name__} names no component: say component = …"
        return plugins.manager().config_class(self.kind, self.component)

    def factory(self) -> Callable[..., Any]:
        """What makes the component, as its package registers it."""
        return plugins.manager().factory(self.kind, self.component)

    def config(self) -> Config:
        """The options, read as a recipe would."""
        return self._read(self.options)

    def context(self) -> Context:
        """The surroundings. What a kind does not need is there all the same; nobody has to look at it."""
        vocabulary = LetterTokenizer(size=11, max_length=10)
        context = Context(
            image_shape=self.image_shape,
            bounded="image_latents" not in self.config().provides(),
            width=WIDTH,
            latent=LATENT,
            latents={"text_encoder": LATENT, "image_encoder": LATENT},
            tokenizer=vocabulary,
            image_tokens=ImageTokens(vocabulary=8, rows=4, columns=4) if "image_tokenizer" in self.config().needs() else None,
            vocabularies={"text_encoder": vocabulary.size, "text_decoder": vocabulary.size},
            steps=10,
        )
        return self.with_shared(context)

    def with_shared(self, context: Context) -> Context:
        """The surroundings with the modules that the component borrows, made for them."""
        return attrs.evolve(context, shared={name: _lent(table, context) for name, table in self.shared.items()})

    def make(self, context: Context | None = None, seed: int = 0, device: torch.device | None = None, config: Config | None = None) -> Any:
        """The component as `ibllm_core.model.build` makes it, its weights drawn with `seed` on the CPU; with its own options, or those of `config`."""
        config, surroundings = config or self.config(), context or self.context()
        for lent in surroundings.shared.values():
            lent.to(device or torch.get_default_device())
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            made = self.factory()(config, surroundings)
        return made.to(device) if device is not None and isinstance(made, torch.nn.Module) else made

    # What is asked.

    def test_options_go_through_toml_and_back(self) -> None:
        """Every option, given or left at its default, reads back the same from a recipe."""
        config = self.config()
        written = {key: value for key, value in plain_options(config).items() if value is not None}
        again = self._read(written)
        expect(again == config, f"{self._name}: written to TOML and read back, the options changed: {config} became {again}")
        hash(config)

    def test_an_unknown_option_is_refused(self) -> None:
        """A mistyped key is never silently ignored."""
        found = structure(self.config_class(), {**self.options, "no_such_option": 1})
        refused = isinstance(found, list) and any(flaw.path == ("no_such_option",) for flaw in found)
        expect(refused, f"{self._name}: the unknown option no_such_option was not refused; the config must be a plain attrs class")

    def test_every_option_says_what_it_means(self) -> None:
        """Every option has a help text, the config a sentence on what it is about."""
        cls = self.config_class()
        silent = [row.key for row in options_of(cls) if not row.help]
        expect(
            not silent, f"{self._name}: options without help: {', '.join(silent)}; declare them with ibllm_core.host.options.option(help=…)"
        )
        expect(bool(cls.__doc__), f"{self._name}: its config class {cls.__name__} has no docstring")

    def test_it_is_listed_without_torch(self) -> None:
        """Listing plugins and reading a recipe import neither torch nor the component itself."""
        for module in self.torch_free_modules():
            found = _imports_torch(module)
            expect(
                not found,
                f"{self._name}: {module} must be importable without torch, for plugins are listed and recipes read first: {found}",
            )

    def torch_free_modules(self) -> tuple[str, ...]:
        """The module of the entry point and that of the config."""
        manager = plugins.manager()
        points = metadata.entry_points(group=PLUGINS, name=self._rows()[0].plugin)
        return (*(point.module for point in points), manager.get(self.kind, self.component).config.partition(":")[0])

    def test_capabilities_are_known_words(self) -> None:
        """What it provides is a word of `ibllm.capabilities` or ``package.word``, its own; what it needs a kind's, of any package."""
        config = self.config()
        own = {self.config_class().__module__.partition(".")[0], *(row.distribution for row in self._rows())}
        strange = sorted(word for word in config.provides() if word not in CAPABILITIES and not _is_of(word, own))
        expected = f"ibllm.capabilities ({', '.join(CAPABILITIES)}), nor begin with its package ({' or '.join(sorted(own))}.word)"
        expect(not strange, f"{self._name} provides {', '.join(strange)}: no words of {expected}")
        for need in needs(config):
            part, _, ability = need.partition(".")
            known = part in (*KINDS, "data", *self.shared) and (not ability or ability in CAPABILITIES or _is_of(ability))
            expected = "a word of ibllm.capabilities or package.word"
            expect(known, f"{self._name} needs {need!r}: expected a kind, or kind.word with {expected}")

    # Helpers.

    @property
    def _name(self) -> str:
        return f"{self.kind}.{self.component}"

    def _rows(self) -> list[plugins.Row]:
        return [row for row in plugins.manager().rows() if (row.kind, row.name) == (self.kind, self.component)]

    def _read(self, options: Mapping[str, Any]) -> Config:
        table = tomllib.loads(to_toml({"component": dict(options)})).get("component", {})
        found = structure(self.config_class(), table)
        if isinstance(found, list):
            raise AssertionError(f"{self._name}: its options {dict(options)} are refused: {'; '.join(map(_described, found))}")
        return found


def _lent(table: Mapping[str, Any], context: Context) -> torch.nn.Module:
    """A shared module, in use, with the same weights each time."""
    kind, options = table.get("kind", "backbone"), {key: value for key, value in table.items() if key not in ("use", "kind")}
    found = structure(plugins.manager().config_class(kind, table["use"]), options)
    assert not isinstance(found, list), f"shared: {'; '.join(map(_described, found))}"
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        made: torch.nn.Module = plugins.manager().factory(kind, table["use"])(found, context)
    return made.eval()


def _is_of(word: str, packages: Collection[str] | None = None) -> bool:
    """True for ``package.word``, of one of the packages if they are given."""
    package, dot, rest = word.partition(".")
    return bool(package and dot and rest) and (packages is None or package in packages)


def _described(flaw: Flaw) -> str:
    return f"{'.'.join(map(str, flaw.path))}: {flaw.what}" + (f", expected {flaw.expected}" if flaw.expected else "")


@functools.cache
def _imports_torch(module: str) -> str:
    """What is wrong with importing a module in a fresh process; empty when all is well."""
    code = f"import importlib, sys; importlib.import_module({module!r}); sys.exit('it imports torch' if 'torch' in sys.modules else 0)"
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(path for path in sys.path if path)}
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False, env=environment)
    return done.stderr.strip().splitlines()[-1] if done.returncode else ""
