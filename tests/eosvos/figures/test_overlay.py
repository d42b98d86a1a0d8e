"""Where an overlay paints what."""

import numpy as np
import pytest
import torch

from eosvos.figures.overlay import OPACITY, overlay


@pytest.fixture
def image() -> torch.Tensor:
    return torch.from_numpy(np.random.default_rng(0).integers(0, 256, (3, 60, 80), dtype=np.uint8))


def test_background_fill_and_contour(image: torch.Tensor) -> None:
    mask = torch.zeros((60, 80), dtype=torch.uint8)
    mask[10:30, 20:50], mask[10:30, 50:70] = 1, 2
    before = image.clone()
    painted = overlay(image, mask)
    assert torch.equal(image, before)
    assert (painted.dtype, painted.shape) == (torch.uint8, image.shape)
    assert torch.equal(painted[:, mask == 0], image[:, mask == 0])
    red, green = (128 * 255 / 191, 0, 0), (0, 128 * 255 / 191, 0)
    for (y, x), colour in (((20, 35), red), ((20, 60), green)):
        wanted = image[:, y, x].numpy() * (1 - OPACITY) + np.array(colour) * OPACITY
        np.testing.assert_allclose(painted[:, y, x].numpy(), wanted, atol=0.5)
    # The outermost pixels of each object, also where two objects touch, are opaque and lighter than the fill.
    for y, x, colour in ((10, 35, red), (29, 35, red), (20, 20, red), (20, 49, red), (20, 50, green), (20, 69, green)):
        np.testing.assert_allclose(painted[:, y, x].numpy(), (np.array(colour) + 255) / 2, atol=0.5)
    assert torch.equal(overlay(image, mask.numpy()), painted)


def test_the_border_of_the_frame_is_no_contour(image: torch.Tensor) -> None:
    painted = overlay(image, torch.ones((60, 80), dtype=torch.uint8))
    assert len(torch.unique(painted[1])) > 50  # no opaque line: green still follows the frame everywhere
    np.testing.assert_allclose(painted[1].numpy(), image[1].numpy() * (1 - OPACITY), atol=0.5)


def test_the_contour_grows_with_the_frame() -> None:
    mask = torch.zeros((480, 854), dtype=torch.uint8)
    mask[100:200, 100:200] = 1
    painted = overlay(torch.zeros((3, 480, 854), dtype=torch.uint8), mask)
    opaque = painted[1, 150] > 0  # over a black frame only the contour of a red object has green
    assert torch.nonzero(opaque).flatten().tolist() == [100, 101, 198, 199]


def test_every_id_has_a_colour() -> None:
    painted = overlay(torch.zeros((3, 16, 16), dtype=torch.uint8), torch.arange(256, dtype=torch.uint8).reshape(16, 16))
    assert painted.shape == (3, 16, 16)


def test_what_does_not_fit_is_refused(image: torch.Tensor) -> None:
    with pytest.raises(ValueError, match="must be uint8"):
        overlay(image.float(), torch.zeros((60, 80), dtype=torch.uint8))
    with pytest.raises(ValueError, match="need"):
        overlay(image, torch.zeros((80, 60), dtype=torch.uint8))
