"""Resampled position embeddings against timm and against the published formula."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from timm.layers import resample_abs_pos_embed

from dinorad_rt.backbones.positions import resample_relative, resample_tokens


def _cubic(distance: np.ndarray, a: float = -0.75) -> np.ndarray:
    """Keys' kernel with torch's coefficient for plain bicubic."""
    d = np.abs(distance)
    near = (a + 2) * d**3 - (a + 3) * d**2 + 1
    far = a * d**3 - 5 * a * d**2 + 8 * a * d - 4 * a
    return np.where(d <= 1, near, np.where(d < 2, far, 0.0))


def _bicubic_matrix(known: int, side: int, scale: float) -> np.ndarray:
    """Rows of weights of a bicubic resampling with borders repeated, from the definition."""
    matrix = np.zeros((side, known))
    for row in range(side):
        centre = (row + 0.5) / scale - 0.5
        base = int(np.floor(centre))
        for tap in range(base - 1, base + 3):
            matrix[row, min(max(tap, 0), known - 1)] += _cubic(np.array(centre - tap))
    return matrix


@pytest.mark.parametrize(("known", "side"), [(37, 16), (37, 32), (14, 28), (5, 8)])
def test_hub_rule_is_its_formula(known: int, side: int) -> None:
    positions = torch.randn(1, 1 + known * known, 6, generator=torch.Generator().manual_seed(0))
    ours = resample_tokens(positions, side, prefix=1, rule="hub")
    matrix = _bicubic_matrix(known, side, (side + 0.1) / known)
    grid = positions[0, 1:].double().numpy().reshape(known, known, 6)
    expected = np.einsum("ih,jw,hwd->ijd", matrix, matrix, grid).reshape(side * side, 6)
    np.testing.assert_allclose(ours[0, 1:].numpy(), expected, atol=2e-5)
    assert torch.equal(ours[:, :1], positions[:, :1])


@pytest.mark.parametrize("prefix", [0, 1, 2])
@pytest.mark.parametrize("side", [16, 32, 37, 40])
def test_timm_rule_is_timms(prefix: int, side: int) -> None:
    positions = torch.randn(1, prefix + 37 * 37, 8, generator=torch.Generator().manual_seed(1))
    ours = resample_tokens(positions, side, prefix=prefix, rule="timm")
    assert torch.equal(
        ours, resample_abs_pos_embed(positions, [side, side], num_prefix_tokens=prefix)
    )


def test_the_two_rules_differ() -> None:
    positions = torch.randn(1, 37 * 37, 8, generator=torch.Generator().manual_seed(2))
    hub, timm = (resample_tokens(positions, 16, prefix=0, rule=rule) for rule in ("hub", "timm"))
    assert (hub - timm).abs().max() > 0.1


def test_native_size_is_untouched() -> None:
    positions = torch.randn(1, 1 + 37 * 37, 8)
    assert resample_tokens(positions, 37, prefix=1, rule="hub") is positions


def test_no_square_grid_and_no_rule() -> None:
    with pytest.raises(ValueError, match="square"):
        resample_tokens(torch.zeros(1, 11, 4), 2, prefix=1, rule="hub")
    with pytest.raises(ValueError, match="does not resample"):
        resample_tokens(torch.zeros(1, 10, 4), 2, prefix=1, rule="fixed")


def test_relative_positions_are_interpolated_linearly() -> None:
    table = torch.randn(127, 4, generator=torch.Generator().manual_seed(3))
    ours = resample_relative(table, 31).numpy()
    centres = (np.arange(31) + 0.5) * 127 / 31 - 0.5
    for column in range(4):
        expected = np.interp(centres, np.arange(127), table[:, column].numpy())
        np.testing.assert_allclose(ours[:, column], expected, atol=1e-4)
