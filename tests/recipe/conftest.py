"""The built-in plugins and a stranger's, as an installed environment would have them."""

from __future__ import annotations

from importlib import metadata

import pytest

from ibllm_core.host import manager as plugins
from ibllm_core.host.entry_points import PLUGINS
from ibllm_core.host.manager import Manager

#: What the stranger's package offers: a metric, and an image decoder that cannot draw in one differentiable pass.
SPECS = """
from ibllm_core.host.hookspecs import hookimpl
from ibllm_core.host.spec import ComponentSpec

@hookimpl
def ibllm_components():
    return [
        ComponentSpec("image_decoder", "etching", "stranger.parts:Etching", "stranger.config:EtchingConfig", "a test's"),
        ComponentSpec("metric", "counted", "stranger.parts:Counted", "stranger.config:CountedConfig", "a test's"),
    ]
"""

CONFIG = """
import attrs
from ibllm.figures import Figure
from ibllm_core.host.options import Config, MetricConfig, option

@attrs.frozen(kw_only=True)
class EtchingConfig(Config):
    latent: int | None = option(None, help="width of the latents it reads", ge=1)

@attrs.frozen(kw_only=True)
class CountedConfig(MetricConfig):
    def figures(self):
        return (Figure("scene_exact"), Figure("caption_exact"),)

    def needs(self):
        return frozenset({"text_encoder", "image_decoder", "image_encoder", "text_decoder"})
"""


@pytest.fixture
def stranger(site, monkeypatch: pytest.MonkeyPatch) -> Manager:  # type: ignore[no-untyped-def]
    """A manager of every installed plugin and the stranger's; `load` without a manager uses it too."""
    site.install("stranger", {"stranger": "stranger.plugin"}, {"stranger.plugin": SPECS, "stranger.config": CONFIG}, version="2.1")
    wanted = ("ibllm", "stranger")

    def manager(block: tuple[str, ...] = ()) -> Manager:
        return Manager(block, [point for point in metadata.entry_points(group=PLUGINS) if point.dist and point.dist.name in wanted])

    monkeypatch.setattr(plugins, "manager", manager)
    return manager()
