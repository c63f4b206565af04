"""Figures of an image tokenizer by itself."""

from __future__ import annotations

import numpy as np
import pytest
from ibllm_tokens.metric import perplexity, psnr


def test_psnr_closed_form():
    images = np.full((2, 4, 4, 3), 100, dtype=np.uint8)
    others = images.copy()
    others[1] += 10
    # 20·log10(255 / 10) = 28.1308…; the same image counts as half a level off: 20·log10(510).
    np.testing.assert_allclose(psnr(images, others), [20 * np.log10(510), 20 * np.log10(25.5)], rtol=1e-12)


def test_psnr_does_not_wrap_around():
    dark, light = np.zeros((1, 2, 2, 3), np.uint8), np.full((1, 2, 2, 3), 255, np.uint8)
    assert psnr(dark, light)[0] == pytest.approx(0)
    assert psnr(light, dark)[0] == pytest.approx(0)


def test_perplexity_counts_tokens_used_alike():
    assert perplexity(np.array([[3, 3, 3, 3]])) == pytest.approx(1)
    assert perplexity(np.arange(8).reshape(2, 4)) == pytest.approx(8)
    # Frequencies 1/2, 1/4, 1/4: entropy 1.5·ln 2.
    assert perplexity(np.array([[0, 0, 1, 2]])) == pytest.approx(2**1.5)
