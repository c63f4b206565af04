"""What this plugin offers."""

from __future__ import annotations

from collections.abc import Iterable

from ibllm.plugin import ComponentSpec, hookimpl


@hookimpl
def ibllm_components() -> Iterable[ComponentSpec]:
    return [
        ComponentSpec(
            kind="dataset",
            name="openmoji",
            factory="ibllm_emoji.openmoji.dataset:OpenmojiDataset",
            config="ibllm_emoji.config:OpenmojiConfig",
            summary="the drawings of OpenMoji 17 with their human-written names in 14 languages; skin tones and concepts held out",
        ),
        ComponentSpec(
            kind="metric",
            name="openmoji_names",
            factory="ibllm_emoji.openmoji.metric:NamesMetric",
            config="ibllm_emoji.config:NamesConfig",
            summary="captions that name the drawing in any language, and round trips read by the nearest drawing",
        ),
        ComponentSpec(
            kind="dataset",
            name="emoji_styles",
            factory="ibllm_emoji.styles.dataset:EmojiStylesDataset",
            config="ibllm_emoji.config:EmojiStylesConfig",
            summary="four artists' drawings of the same things, with captions in 28 languages; pairs of thing and style held out",
        ),
        ComponentSpec(
            kind="metric",
            name="emoji_styles",
            factory="ibllm_emoji.styles.metric:EmojiStylesMetric",
            config="ibllm_emoji.config:StylesConfig",
            summary="drawings that show the thing in the style, beside two floors and a ceiling, and captions that name both",
        ),
    ]
