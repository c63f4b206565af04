"""What this plugin offers."""

from __future__ import annotations

from collections.abc import Iterable

from ibllm.plugin import ComponentSpec, hookimpl


def _spec(kind: str, name: str, module: str, class_: str, summary: str) -> ComponentSpec:
    factory, config = f"ibllm_gan.{module}:{class_}", f"ibllm_gan.config:{class_}Config"
    return ComponentSpec(kind=kind, name=name, factory=factory, config=config, summary=summary)


def _generator(name: str, module: str, class_: str, summary: str) -> ComponentSpec:
    return _spec("image_decoder", name, module, class_, summary)


def _critic(name: str, module: str, class_: str, summary: str) -> ComponentSpec:
    return _spec("discriminator", name, module, class_, summary)


@hookimpl
def ibllm_components() -> Iterable[ComponentSpec]:
    attention = "one-shot conditional generator whose patches attend to the text's tokens"
    return [
        _generator("cross_attention", "cross_attention", "CrossAttentionGenerator", attention),
        _generator("dcgan", "dcgan", "DCGANGenerator", "transposed convolutions from noise and pooled text (DCGAN)"),
        _generator("dfgan", "dfgan", "DFGANGenerator", "residual blocks, each modulated by the text before every convolution (DF-GAN)"),
        _generator("attngan", "attngan", "AttnGANGenerator", "places attend to words while the map grows (AttnGAN)"),
        _critic(
            "matching_aware",
            "matching_aware",
            "MatchingAwareCritic",
            "convolutional critic whose places attend to the text's tokens; twice differentiable",
        ),
        _critic("dcgan", "dcgan", "DCGANCritic", "strided convolutions, text concatenated to every place of the last map (DCGAN)"),
        _critic("patchgan", "patchgan", "PatchGANCritic", "one score a patch, each by itself (PatchGAN)"),
        _critic("projection", "projection", "ProjectionCritic", "residual, spectrally normalised; text by an inner product"),
        _critic("dfgan", "dfgan", "DFGANCritic", "residual, one score of image and text together (DF-GAN)"),
        _critic("r3gan", "r3gan", "R3GANCritic", "residual with grouped convolutions and no norms; text by an inner product (R3GAN)"),
    ]
