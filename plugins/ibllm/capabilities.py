"""The words that `provides` and `needs` use, and what each promises. Torch-free; a package's own are ``package.word``, any other is an error."""

from __future__ import annotations

from collections.abc import Mapping

CAPABILITIES: Mapping[str, str] = {
    "differentiable_draw": "an image decoder that draws in one differentiable pass (interfaces.image.DrawingDecoder)",
    "exact_likelihood": "a decoder whose nll is exact, not a bound or a reconstruction",
    "likelihood_bound": "a decoder whose nll, in evaluation mode, is in nats and on average over its noise a bound: at least −log p",
    "noise": "a decoder whose images vary with noise",
    "image_tokens": "an image decoder that works on the tokens of a codec",
    "image_latents": "an image decoder that works on the latents of a codec",
    "soft_tokens": "a text encoder that can encode mixtures of embeddings",
    "causal": "a text encoder whose latent place i is made of the tokens up to i alone",
    "prefix": "a text decoder that can go on from a given beginning (questions)",
    "conditioning_augmentation": "an image decoder that draws its text condition from a normal distribution, `gaussian`",
    "caption_likelihood": "an image decoder that reads text and image as one sequence and gives both likelihoods, `caption_nll`",
    "features": "a discriminator that shows what it sees on its way to the score, `features`",
    "token_mixing": "a backbone that maps tokens (b n d) and their mask to as many tokens (ibllm.blocks.borrowing.Backbone)",
    "knowledge": "a backbone that links a text's tokens to what it knows of them, `facts` (ids → vectors, kinds, whether there are any)",
    "tokens": "a codec that gives discrete tokens (interfaces.image.ImageTokenizer)",
    "latents": "a codec that gives continuous latents (interfaces.image.LatentCodec)",
    "regularisation": "a codec that adds something to the reconstruction error (`Reconstruction.regularisation`): a commitment to codes, a KL term",
    "sequences": "a backbone that text and image go through as one sequence, in either order, and the decoders that go through it so",
    "ready": "a part that losses may go through before any stage has trained it: a pretrained one with nothing of ours in it",
    "captions": "data with captions, or a table `[unpaired.text]` with such (`Cycle.texts`)",
    "images": "data with images, or a table `[unpaired.images]` with such (`Cycle.images`)",
    "pairs": "data with captions and images that belong together (`Cycle.x`, `Cycle.y`)",
    "questions": "data with questions and answers about the images",
    "second_order": "a discriminator that can be differentiated twice by image and latent",
}
