"""ibllm's own checks of an image decoder and of a loss, and what is special about these."""

from __future__ import annotations

import xml.etree.ElementTree as ET
from types import SimpleNamespace

import attrs
import ibllm
import pytest
import torch
from ibllm.plugin import Context, UserError
from ibllm_testing import ImageDecoderSuite, LossSuite

from ibllm_ellipses.command import command, svg
from ibllm_ellipses.config import EdgeLossConfig, EllipseDecoderConfig
from ibllm_ellipses.image_decoder import EllipseDecoder, Painting
from ibllm_ellipses.loss import EdgeLoss, gradient_difference


class TestEllipses(ImageDecoderSuite):
    component = "ellipses"
    options = {"ellipses": 4}


class TestEllipsesWithNoise(ImageDecoderSuite):
    component = "ellipses"
    options = {"ellipses": 4, "noise": 3, "depth": 0}


class TestEdges(LossSuite):
    component = "edges"


class TestEdgesSquared(LossSuite):
    component = "edges"
    options = {"exponent": 2.0}


def decoder(height: int = 64, width: int = 64) -> EllipseDecoder:
    return EllipseDecoder(EllipseDecoderConfig(ellipses=2), Context(image_shape=(3, height, width), width=8, latent=4))


@pytest.fixture
def painting() -> Painting:
    """On black: a large grey disc in the middle, and on top of it a flat red bar, up and to the right, that is half transparent."""
    return Painting(
        ground=torch.tensor([[-1.0, -1.0, -1.0]]),
        centre=torch.tensor([[[0.0, 0.0], [0.5, -0.5]]]),
        axes=torch.tensor([[[0.6, 0.6], [0.4, 0.1]]]),
        direction=torch.tensor([[[1.0, 0.0], [1.0, 0.0]]]),
        colour=torch.tensor([[[0.0, 0.0, 0.0], [1.0, -1.0, -1.0]]]),
        opacity=torch.tensor([[1.0, 0.5]]),
        edge=torch.tensor([[0.02, 0.01]]),
    )


def test_what_is_painted_is_where_it_should_be(painting):
    image = decoder().paint(painting)[0]
    middle, corner, bar = image[:, 32, 32], image[:, 60, 4], image[:, 16, 52]
    torch.testing.assert_close(middle, torch.zeros(3), atol=0.02, rtol=0)
    torch.testing.assert_close(corner, -torch.ones(3), atol=0.02, rtol=0)
    torch.testing.assert_close(bar, torch.tensor([0.0, -1.0, -1.0]), atol=0.06, rtol=0)
    torch.testing.assert_close(image[:, 24, 40], torch.zeros(3), atol=0.06, rtol=0)  # above the disc's middle, below the bar


def test_the_area_of_a_disc_is_pi_r_squared(painting):
    covered = decoder(128, 128).coverage(painting)[0, 0].mean() * 4
    assert float(covered) == pytest.approx(torch.pi * 0.6**2, rel=0.01)


def test_a_quarter_turn_swaps_the_axes(painting):
    turned = attrs.evolve(painting, direction=torch.tensor([[[1.0, 0.0], [0.0, 1.0]]]))
    swapped = attrs.evolve(painting, axes=painting.axes.flip(-1))
    torch.testing.assert_close(decoder().paint(turned), decoder().paint(swapped))


def test_pixels_are_square_in_wide_images(painting):
    square, wide = decoder(64, 64).paint(painting), decoder(64, 96).paint(painting)
    torch.testing.assert_close(wide[..., 16:80], square)


def test_edges_of_equal_images_cost_nothing_and_a_shift_in_brightness_neither():
    y = torch.rand(2, 3, 8, 8)
    assert gradient_difference(y, y, 1.0).tolist() == [0, 0]
    torch.testing.assert_close(gradient_difference(y, y * 0.5 + 0.25, 1.0), gradient_difference(y, y * 0.5, 1.0))


def test_a_missing_edge_costs_its_height():
    """One vertical edge of height 2 over all 4 rows: 2·4 of 4·3 horizontal differences, and no vertical ones."""
    y = torch.tensor([-1.0, -1.0, 1.0, 1.0]).expand(1, 1, 4, 4)
    loss = EdgeLoss(EdgeLossConfig(), Context())
    cycle = SimpleNamespace(y=y, y_fake=torch.zeros_like(y))
    assert float(loss(cycle)) == pytest.approx(8 / 12)
    assert float(EdgeLoss(EdgeLossConfig(exponent=2.0), Context())(cycle)) == pytest.approx(16 / 12)


def test_a_painting_as_svg(painting):
    root = ET.fromstring(svg(painting, 1.5))
    assert root.attrib["viewBox"] == "-1.5000 -1 3.0000 2"
    ground, disc, bar = root
    assert ground.attrib["fill"] == "#000000"
    assert (disc.attrib["rx"], disc.attrib["ry"], disc.attrib["fill"]) == ("0.6000", "0.6000", "#808080")
    assert (bar.attrib["fill"], bar.attrib["fill-opacity"]) == ("#ff0000", "0.500")
    assert bar.attrib["transform"] == "matrix(1.0000 0.0000 -0.0000 1.0000 0.5000 -0.5000)"


def test_the_command_wants_a_run(tmp_path):
    with pytest.raises(UserError, match="is no run directory"):
        command.main([str(tmp_path), "a red circle"], standalone_mode=False)


def test_the_recipe_has_no_mistakes():
    assert ibllm.recipe("ibllm-ellipses:shapes").resolved.parts["image_decoder"].distribution == "ibllm-ellipses"
