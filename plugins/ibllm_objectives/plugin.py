"""What this plugin offers."""

from __future__ import annotations

from collections.abc import Iterable

from ibllm.plugin import ComponentSpec, hookimpl


def _spec(name: str, module: str, class_: str, summary: str) -> ComponentSpec:
    factory, config = f"ibllm_objectives.{module}:{class_}", f"ibllm_objectives.config:{class_}Config"
    return ComponentSpec(kind="loss", name=name, factory=factory, config=config, summary=summary)


@hookimpl
def ibllm_components() -> Iterable[ComponentSpec]:
    return [
        _spec("image_nll", "likelihood", "ImageNLL", "L_text = −log p(y|x), the image decoder's own or around the drawn image"),
        _spec("text_nll", "likelihood", "TextNLL", "L_image = −log p(x|y), the captioner's cross-entropy"),
        _spec("answer_nll", "likelihood", "AnswerNLL", "−log p(answer | y, question), the question as a prefix"),
        _spec("question_nll", "likelihood", "QuestionNLL", "−log p(question | y), the text decoder asking about the image"),
        _spec(
            "cycle", "likelihood", "CycleNLL", "−log p(x | the image drawn from x), through image and captioner back to the text encoder"
        ),
        _spec(
            "cycle_image",
            "round_trip",
            "CycleImage",
            "−log p(y | the caption written about y); gradients pass the choice of words straight through",
        ),
        _spec(
            "back_translation",
            "round_trip",
            "BackTranslation",
            "−log p(y | the caption that the model writes about y), or −log p(x | the image that it draws for x), the other half of the pair being fixed",
        ),
        _spec("distill", "distillation", "Distill", "−log p(the image that a teacher draws for x), the teacher being another run's parts"),
        _spec(
            "distill_text",
            "distillation",
            "DistillText",
            "divergence of the captioner's next words from a teacher's, the teacher being another run's parts",
        ),
        _spec("cycle_latent", "round_trip", "CycleLatent", "the latent read off the drawn image agrees with the caption's"),
        _spec("kl", "regularisers", "KL", "conditioning augmentation's divergence from the standard normal distribution"),
        _spec("mode_seeking", "regularisers", "ModeSeeking", "two drawings of one caption differ as their noise does (diversity)"),
        _spec("reconstruction", "reconstruction", "Reconstruction", "error of an image after the codec and back"),
        _spec(
            "codec_regularisation",
            "reconstruction",
            "CodecRegularisation",
            "what the codec adds to the reconstruction error: a commitment to codes, a KL term",
        ),
        _spec("perceptual", "perceptual", "Perceptual", "a reconstructed or drawn image looks to an image encoder like the real one"),
        _spec("joint", "joint", "Joint", "L_joint = L_text + λ·L_image, of two losses named in the recipe"),
        _spec(
            "contrastive",
            "contrastive",
            "Contrastive",
            "contrastive loss over the batch of captions and images, by softmax (InfoNCE, CLIP)",
        ),
        _spec(
            "contrastive_sigmoid",
            "contrastive",
            "ContrastiveSigmoid",
            "contrastive loss by a sigmoid for each pair of caption and image (SigLIP)",
        ),
    ]
