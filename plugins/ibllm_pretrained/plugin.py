"""What this plugin offers."""

from __future__ import annotations

from collections.abc import Iterable

from ibllm.plugin import ComponentSpec, hookimpl


@hookimpl
def ibllm_components() -> Iterable[ComponentSpec]:
    return [
        ComponentSpec(
            kind="tokenizer",
            name="pretrained",
            factory="ibllm_pretrained.tokenizer:PretrainedTokenizer",
            config="ibllm_pretrained.config:PretrainedTokenizerConfig",
            summary="the tokenizer of a Hugging Face model in a local folder or an installed package",
        ),
        ComponentSpec(
            kind="text_encoder",
            name="pretrained",
            factory="ibllm_pretrained.text_encoder:PretrainedTextEncoder",
            config="ibllm_pretrained.config:PretrainedTextEncoderConfig",
            summary="a Hugging Face model in a local folder or an installed package: frozen, tuned, or with low-rank adapters",
        ),
        ComponentSpec(
            kind="text_decoder",
            name="pretrained",
            factory="ibllm_pretrained.text_decoder:text_decoder",
            config="ibllm_pretrained.config:PretrainedTextDecoderConfig",
            summary="a language model of transformers that reads the image as a prefix: frozen, tuned, or with low-rank adapters",
        ),
        ComponentSpec(
            kind="image_encoder",
            name="pretrained",
            factory="ibllm_pretrained.image_encoder:PretrainedImageEncoder",
            config="ibllm_pretrained.config:PretrainedImageEncoderConfig",
            summary="a vision model of transformers with its own preprocessing: frozen, tuned, or with low-rank adapters",
        ),
        ComponentSpec(
            kind="metric",
            name="clip_score",
            factory="ibllm_pretrained.metric:ClipScore",
            config="ibllm_pretrained.config:ClipScoreConfig",
            summary="how well captions and images go together to a pretrained pair like CLIP (Hessel et al. 2021)",
        ),
        ComponentSpec(
            kind="image_tokenizer",
            name="pretrained",
            factory="ibllm_pretrained.image_tokenizer:image_tokenizer",
            config="ibllm_pretrained.config:PretrainedCodecConfig",
            summary="a codec of diffusers: VQModel, AutoencoderKL or AutoencoderDC, frozen or tuned",
        ),
    ]
