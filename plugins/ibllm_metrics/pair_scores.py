"""How well captions and images belong together, by the model's own parts. Shapes: n images, m candidates, d, e latents, k canonical directions."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt
import torch

from ibllm.plugin import CanonicalCorrelations, Latent, Model, Tokens, fit_canonical, to_images, to_tokens
from ibllm_metrics import training_split

if TYPE_CHECKING:
    from ibllm.plugin import Evaluation

Pixels = npt.NDArray[np.uint8]
Floats = npt.NDArray[np.float64]
Places = npt.NDArray[np.int64]
#: Pairs of a caption and an image that D_x reads at once.
_PAIRS = 512


def pooled_images(model: Model, images: Pixels, batch: int) -> Floats:
    """images (b h w c) → (b e) E_y's pooled latents."""
    encoder, found = model.part("image_encoder"), []
    with model.inference():
        for start in range(0, len(images), batch):
            z: Latent = encoder(to_images(images[start : start + batch]).to(model.device))
            found.append(z.pooled.double().cpu().numpy())
    return np.concatenate(found)


def pooled_captions(model: Model, captions: Sequence[str], batch: int) -> Floats:
    """b captions → (b d) E_x's pooled latents."""
    encoder, found = model.part("text_encoder"), []
    with model.inference():
        for start in range(0, len(captions), batch):
            z: Latent = encoder(to_tokens(model.tokenizers["text_encoder"], captions[start : start + batch]).to(model.device))
            found.append(z.pooled.double().cpu().numpy())
    return np.concatenate(found)


def fitted(evaluation: Evaluation, fit: int, ridge: float) -> tuple[CanonicalCorrelations, Mapping[str, str | int]]:
    """The analysis of the training split's first `fit` captions and real images, and what a record says of these."""
    model, batch = evaluation.model, evaluation.batch

    def analysis() -> tuple[CanonicalCorrelations, Mapping[str, str | int]]:
        captions: list[str] = []
        images: list[Pixels] = []
        for samples in training_split.read(evaluation.dataset, fit):
            assert samples.captions is not None and samples.images is not None, "the dataset gives no pairs"
            captions += samples.captions
            images.append(samples.images)
        real = np.concatenate(images)
        canonical = fit_canonical(pooled_captions(model, captions, batch), pooled_images(model, real, batch), ridge)
        hashes = {"train_captions": training_split.captions_hash(captions), "train_images": training_split.images_hash(real)}
        return canonical, {"train": len(captions), **hashes}

    return evaluation.once(f"metrics.canonical.{fit}.{ridge}", analysis)


def latent_scores(evaluation: Evaluation, images: Pixels, candidates: Places, fit: int, ridge: float) -> Floats:
    """images (n h w c), candidates (n m) items of the split → (n m): how near each candidate's caption is to the image."""
    model, batch = evaluation.model, evaluation.batch
    canonical, _ = fitted(evaluation, fit, ridge)
    captions = evaluation.once("metrics.captions", lambda: pooled_captions(model, evaluation.captions, batch))
    return canonical.cosines(captions[candidates], pooled_images(model, images, batch)[:, None])


def likelihood_scores(evaluation: Evaluation, images: Pixels, candidates: Places) -> Floats:
    """images (n h w c), candidates (n m) items of the split → (n m) log p(caption | image) in nats by D_x.

    Among captions of one image, short and common ones have an advantage that images of one caption have not. Dividing by p(caption), as
    the mean over some hundred images, would be worse: that mean is all but one image's share, and whichever image came nearest would win.
    """
    model, m = evaluation.model, candidates.shape[1]
    encoder, decoder = model.part("image_encoder"), model.part("text_decoder")
    tokens = to_tokens(model.tokenizers["text_decoder"], evaluation.captions).to(model.device)
    rows = max(1, _PAIRS // m)
    found = []
    with model.inference():
        for start in range(0, len(images), rows):
            chosen = torch.from_numpy(candidates[start : start + rows]).to(model.device)
            z: Latent = encoder(to_images(images[start : start + rows]).to(model.device))
            pairs = Tokens(tokens.ids[chosen.flatten()], tokens.mask[chosen.flatten()])
            nll: torch.Tensor = decoder(pairs, z.repeat(m))
            found.append(-nll.double().cpu().numpy().reshape(len(chosen), m))
    return np.concatenate(found)
