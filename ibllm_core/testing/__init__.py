"""The conformance kit: one suite for each kind of component, for ours and for yours.

Example:
    from ibllm_core.testing import TextEncoderSuite

    class TestBag(TextEncoderSuite):
        component = "bag"
"""

from .cover import cover
from .critic import DiscriminatorSuite
from .image import ImageDecoderSuite, ImageEncoderSuite
from .image_tokenizer import ImageTokenizerSuite
from .suite import Suite
from .text import TextDecoderSuite, TextEncoderSuite

__all__ = [
    "DiscriminatorSuite",
    "ImageDecoderSuite",
    "ImageEncoderSuite",
    "ImageTokenizerSuite",
    "Suite",
    "TextDecoderSuite",
    "TextEncoderSuite",
    "cover",
]
