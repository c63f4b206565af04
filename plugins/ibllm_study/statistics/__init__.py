"""What a study's runs say, and what they could say. Torch-free; scipy and statsmodels are imported when something is reckoned."""

from __future__ import annotations

from .aggregate import Aggregate, interquartile_mean, is_large, probability_of_improvement
from .paired import Comparison, compare, holm
from .power import PowerPrediction, power, predict_power
from .samples import BOOTSTRAP_FROM, Summary, summarise
from .signflip import smallest_p

__all__ = [
    "BOOTSTRAP_FROM",
    "Aggregate",
    "Comparison",
    "PowerPrediction",
    "Summary",
    "compare",
    "holm",
    "interquartile_mean",
    "is_large",
    "power",
    "predict_power",
    "probability_of_improvement",
    "smallest_p",
    "summarise",
]
