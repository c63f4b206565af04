"""The one question a plugin answers. Torch-free."""

from __future__ import annotations

from collections.abc import Iterable

import pluggy

from .spec import ComponentSpec

PROJECT = "ibllm"

hookspec = pluggy.HookspecMarker(PROJECT)
hookimpl = pluggy.HookimplMarker(PROJECT)


@hookspec
def ibllm_components() -> Iterable[ComponentSpec]:  # type: ignore[empty-body]
    """The components that a plugin offers.

    Example, the whole of a plugin's ``plugin.py``::

        from ibllm_core.hookspecs import hookimpl
        from ibllm_core.spec import ComponentSpec

        @hookimpl
        def ibllm_components():
            return [
                ComponentSpec(
                    kind="text_encoder", name="mean",
                    factory="my_package.text_encoder:MeanTextEncoder",
                    config="my_package.config:MeanTextEncoderConfig",
                    summary="mean of the embeddings",
                )
            ]

    and its entry point in ``pyproject.toml``::

        [project.entry-points.ibllm]
        mean = "my_package.plugin"
    """
