"""The head's linear part: what uneven labels may and may not do to it, and when many labels free it."""

from __future__ import annotations

import numpy as np
import pytest

from stplm.tasks.head import fit_linear, held_out_penalty


def _two_sides(counts: tuple[int, int], seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Cells (n, 1) of two classes about -1 and 1."""
    random = np.random.default_rng(seed)
    codes = np.repeat([0, 1], counts)
    return (2.0 * codes - 1 + random.normal(0, 1, len(codes)))[:, None], codes


def _border(counts: tuple[int, int], **more: float) -> float:
    """Where a cell is as probably of one class as of the other."""
    coefficients, bias = fit_linear(*_two_sides(counts), 2, **more)
    slope, offset = coefficients[1] - coefficients[0], bias[1] - bias[0]
    return float(-offset / slope[0])


@pytest.mark.parametrize("counts", [(2000, 2000), (3600, 120), (120, 3600)])
def test_the_border_does_not_follow_the_number_of_labels(counts: tuple[int, int]) -> None:
    """A classifier with the labels' shares in would have it 1.7 away."""
    assert abs(_border(counts)) < 0.25


def test_sharpness_is_of_what_is_learnt_and_not_of_the_labels_shares() -> None:
    """The logits at 0, where the classes meet, are those of no evidence whatever the sharpness."""
    design, codes = _two_sides((3600, 120))
    plain, sharp = (fit_linear(design, codes, 2, sharp=s) for s in (1.0, 2.0))
    np.testing.assert_allclose(sharp[0], 2 * plain[0])
    shares = np.log(np.bincount(codes) * 2 / len(codes))
    np.testing.assert_allclose(sharp[1] + shares, 2 * (plain[1] + shares))


def test_of_few_labels_the_number_says_nothing() -> None:
    """One label against nine: classes weigh the same, as if each had five."""
    design, codes = _two_sides((9, 1))
    coefficients, bias = fit_linear(design, codes, 2)
    again = fit_linear(np.vstack([design, np.repeat(design[-1:], 8, axis=0)]), np.append(codes, np.ones(8, int)), 2)
    assert np.sign(coefficients[1, 0]) == np.sign(again[0][1, 0])
    assert abs(bias[1] - bias[0]) < np.log(9)


def _many(strength: float, n_genes: int, seed: int = 1) -> tuple[np.ndarray, np.ndarray]:
    """600 cells of each of three classes that differ by ``strength`` in every gene."""
    random = np.random.default_rng(seed)
    codes = np.repeat([0, 1, 2], 600)
    centres = random.choice([-1.0, 1.0], (3, n_genes)) * strength
    return centres[codes] + random.normal(0, 0.1, (len(codes), n_genes)), codes


def test_the_penalty_gives_way_where_held_out_labels_ask_for_it() -> None:
    design, codes = _many(0.03, 60)
    fade = np.ones(len(codes))
    assert held_out_penalty(design, codes, 3, fade) == 1.0
    assert held_out_penalty(design[::4], codes[::4], 3, fade[::4]) is None  # too few to tell


def test_the_penalty_stays_where_classes_are_noise_or_clear() -> None:
    random = np.random.default_rng(2)
    noise, codes = random.normal(0, 1, (1800, 40)), np.repeat([0, 1, 2], 600)
    clear, _ = _many(3.0, 40)
    for design in (noise, clear):
        assert held_out_penalty(design, codes, 3, np.ones(len(codes))) is None
