"""Seeds nested in draws of the data: a mixed model of paired differences. Torch-free; statsmodels is imported when something is reckoned."""

from __future__ import annotations

import math
import warnings
from collections.abc import Mapping

import attrs

from .paired import Comparison
from .samples import EQUAL
from .signflip import sign_flip

__all__ = ["nest"]


def nest(comparison: Comparison, by_seed: Mapping[int, float], draw: Mapping[int, int]) -> Comparison:
    """A comparison whose error tells draws of the data from seeds within them, as to hold for other data too.

    The model is difference = mean + draw + seed, both at random, fitted by restricted maximum likelihood (statsmodels' MixedLM). The mean's t has draws − 1
    degrees of freedom, those of the level that it varies at (containment; Pinheiro & Bates 2000, §2.4.2): with as many seeds in every draw this is the t-test
    of the draws' means, but where these vary less than their seeds suggest. The sign-flip test flips draws.

    Args:
        by_seed: the differences.
        draw: seed → the number of its draw.
    """
    import numpy as np
    from scipy import special
    from statsmodels.regression.mixed_linear_model import MixedLM

    groups = np.asarray([draw[seed] for seed in by_seed])
    values = np.asarray(list(by_seed.values()), dtype=float)
    draws = len(set(groups.tolist()))
    if comparison.p_t is None or draws < 2:
        note = comparison.note or ("one draw of the data: nothing to judge it by" if draws < 2 else "")
        return attrs.evolve(
            comparison, p_t=None, p_permutation=None, low=None, high=None, low_all=None, high_all=None, draws=draws, note=note
        )
    scale = float(np.abs(values).max())
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of variances that are zero, which is an answer here
        fitted = MixedLM(values / scale, np.ones((len(values), 1)), groups).fit(reml=True)
    mean, error, freedom = float(fitted.fe_params[0]) * scale, float(fitted.bse_fe[0]) * scale, draws - 1
    means = [float(values[groups == one].mean()) for one in dict.fromkeys(groups.tolist())]
    p_flip, exact = sign_flip(means, EQUAL * scale)
    half = float(special.stdtrit(freedom, 0.5 + comparison.confidence / 2)) * error
    return attrs.evolve(
        comparison,
        difference=mean,
        sd=error * math.sqrt(len(values)),
        low=mean - half,
        high=mean + half,
        low_all=mean - half,
        high_all=mean + half,
        p_t=float(2 * special.stdtr(freedom, -abs(mean / error))),
        p_permutation=p_flip,
        exact=exact,
        draws=draws,
        sd_between_draws=math.sqrt(max(0.0, float(np.asarray(fitted.cov_re)[0, 0]))) * scale,
        sd_within_draws=math.sqrt(float(fitted.scale)) * scale,
        d_z=None,
        g_z=None,
    )
