"""Views: an image comes out upright, in the middle, and as it was where nothing is to be changed."""

import pytest
import torch
from torch.nn import functional

from digitsum.model.preprocess import compose, deskew_maps, identity_maps, resample


def stroke(slant=0.0, x=13.5, y=13.5):
    """Draw a soft stroke that leans by `slant` columns a row, float [1, 28, 28]."""
    place = torch.arange(28.0)
    middle = x + slant * (place - y)
    columns = torch.exp(-(((place - middle.unsqueeze(1)) / 2) ** 2))
    rows = torch.exp(-(((place - y) / 5) ** 2)).unsqueeze(1)
    return 255 * (columns * rows).unsqueeze(0)


def test_maps_that_change_nothing_change_nothing():
    images = torch.rand(5, 28, 28) * 255
    torch.testing.assert_close(resample(images, identity_maps(images)), images, atol=2e-3, rtol=0)
    torch.testing.assert_close(resample(images, identity_maps(images), 24), images[:, 2:26, 2:26], atol=2e-3, rtol=0)


def test_a_look_is_what_pytorch_shows_through_the_same_maps():
    images, maps = torch.rand(5, 28, 28) * 255, torch.eye(2, 3) + 0.2 * torch.randn(5, 2, 3)
    grid = functional.affine_grid(maps, [5, 1, 28, 28], align_corners=False)
    expected = functional.grid_sample(images.unsqueeze(1), grid, align_corners=False).squeeze(1)
    torch.testing.assert_close(resample(images, maps), expected, atol=1e-3, rtol=0)


@pytest.mark.parametrize("slant", [-0.8, -0.3, 0.0, 0.5])
@pytest.mark.parametrize("x", [11.0, 15.25])
def test_a_stroke_that_leans_comes_out_upright_and_in_the_middle(slant, x):
    image = stroke(slant, x, 12.5)
    seen = resample(image, deskew_maps(image))
    assert deskew_maps(image)[0, 0, 1] == pytest.approx(slant, abs=0.02)
    assert (seen - stroke()).abs().mean() < 1  # of 255: sampling between pixels blurs a little
    assert (image - stroke()).abs().mean() > 9


def test_what_is_upright_or_empty_stays_as_it_is_and_the_slant_is_bounded():
    lying = torch.zeros(1, 28, 28)
    lying[0, 13, 2:14] = lying[0, 14, 14:26] = 255  # a flat line: its "slant" would tear it apart
    images = torch.cat([stroke(), torch.zeros(1, 28, 28), torch.full((1, 28, 28), 255.0), lying])
    maps = deskew_maps(images)
    torch.testing.assert_close(maps[:3], identity_maps(images[:3]), atol=1e-4, rtol=0)
    assert maps[3].isfinite().all()
    assert maps[3, 0, 1] == 1


def test_one_look_through_two_maps_is_two_looks():
    image = stroke(0.4, 12, 15)
    turn = torch.tensor([[[0.98, -0.2, 0.05], [0.2, 0.98, -0.1]]])
    torch.testing.assert_close(compose(identity_maps(image), turn), turn)
    torch.testing.assert_close(compose(turn, identity_maps(image)), turn)
    twice = resample(resample(image, deskew_maps(image)), turn)
    assert (resample(image, compose(deskew_maps(image), turn)) - twice).abs().mean() < 1
    assert (resample(image, compose(turn, deskew_maps(image))) - twice).abs().mean() > 2
