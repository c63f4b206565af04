"""The conformance kit: one suite for each kind of component, for ours and for yours.

Example:
    from ibllm_testing import TextEncoderSuite

    class TestBag(TextEncoderSuite):
        component = "bag"
"""

from collections.abc import Mapping

from .backbone import BackboneSuite
from .cover import cover
from .critic import DiscriminatorSuite
from .dataset import DatasetSuite
from .image import ImageDecoderSuite, ImageEncoderSuite
from .image_tokenizer import ImageTokenizerSuite
from .loss import LossSuite
from .metric import MetricSuite
from .optimisation import OptimizerSuite, ScheduleSuite
from .perturbation import PerturbationSuite
from .procedure import ProcedureSuite
from .suite import Suite
from .text import TextDecoderSuite, TextEncoderSuite
from .tokenizer import TokenizerSuite
from .tracker import TrackerSuite

__all__ = [
    "SUITES",
    "BackboneSuite",
    "DatasetSuite",
    "DiscriminatorSuite",
    "ImageDecoderSuite",
    "ImageEncoderSuite",
    "ImageTokenizerSuite",
    "LossSuite",
    "MetricSuite",
    "OptimizerSuite",
    "PerturbationSuite",
    "ProcedureSuite",
    "ScheduleSuite",
    "Suite",
    "TextDecoderSuite",
    "TextEncoderSuite",
    "TokenizerSuite",
    "TrackerSuite",
    "cover",
]

#: Kind → what its components are asked.
SUITES: Mapping[str, type[Suite]] = {
    suite.kind: suite
    for suite in (
        TextEncoderSuite,
        ImageDecoderSuite,
        ImageEncoderSuite,
        TextDecoderSuite,
        DiscriminatorSuite,
        ImageTokenizerSuite,
        BackboneSuite,
        LossSuite,
        DatasetSuite,
        TokenizerSuite,
        MetricSuite,
        OptimizerSuite,
        ScheduleSuite,
        ProcedureSuite,
        PerturbationSuite,
        TrackerSuite,
    )
}
