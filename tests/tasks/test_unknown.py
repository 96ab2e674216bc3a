"""The unknown score on a made-up section: four kinds of cells, one of which nobody labelled."""

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy.sparse import csr_matrix
from sklearn.metrics import roc_auc_score

from stplm.tasks.unknown import UnknownScore, fit_unknown

N, GENES, KINDS = 1_600, 40, 4


class Section:
    """``kind`` 3 is a tenth of the section; vectors follow the log-normalised counts."""

    def __init__(self) -> None:
        random = np.random.default_rng(0)
        self.kind: NDArray[np.int64] = np.repeat(np.arange(KINDS), [600, 500, 340, 160])
        shares = random.dirichlet(np.full(GENES, 0.3), KINDS)
        depth = np.exp(random.normal(4, 0.7, N))
        counts = random.poisson(depth[:, None] * shares[self.kind])
        counts[0] = 0
        self.counts = csr_matrix(counts)
        self.depth = counts.sum(1).astype(float)
        level = np.log1p(100 * counts / np.maximum(self.depth, 1)[:, None])
        self.vectors = level @ random.normal(0, 1, (GENES, 12))

    def fit(self, per_class: int, **more: object) -> UnknownScore:
        rows = np.concatenate([np.flatnonzero(self.kind == k)[3 : 3 + per_class] for k in range(3)])
        return fit_unknown(self.vectors, self.counts, rows, self.kind[rows], **more)  # type: ignore[arg-type]


@pytest.fixture(scope="module")
def section() -> Section:
    return Section()


@pytest.mark.parametrize(("per_class", "auroc"), [(1, 0.9), (8, 0.97)])
def test_a_class_without_labels_scores_high(section: Section, per_class: int, auroc: float) -> None:
    score = section.fit(per_class).score(section.vectors, section.depth)
    real = section.depth > 0
    assert roc_auc_score(section.kind[real] == 3, score[real]) > auroc


def test_score_of_known_cells_is_about_the_share_of_known_cells_below(section: Section) -> None:
    score = section.fit(20).score(section.vectors, section.depth)
    known = score[(section.kind < 3) & (section.depth > 0)]
    assert np.mean(known > 0.9) == pytest.approx(0.1, abs=0.08)
    assert np.mean(known > 0.5) == pytest.approx(0.5, abs=0.2)
    assert np.median(score[section.kind == 3]) > 0.9


def test_cells_unlike_anything_in_the_section_score_high(section: Section) -> None:
    strange = section.vectors.mean(0) + 12 * section.vectors.std(0) * np.array([1, -1] * 6)
    assert section.fit(8).score(strange[None], [200.0])[0] > 0.95


def test_faint_cells_are_uncertain_not_unknown(section: Section) -> None:
    fitted = section.fit(8)
    unlabelled = np.flatnonzero((section.kind == 3) & (section.depth > 100))[:1]
    deep, faint, none = (fitted.score(section.vectors[unlabelled], [n])[0] for n in (200, 2, 0))
    assert deep > faint > 0.4
    assert np.isnan(none)


def test_same_input_same_bytes_and_no_batch_mates(section: Section) -> None:
    first, second = section.fit(8, seed=3), section.fit(8, seed=3)
    for name, array in first.to_arrays().items():
        assert array.tobytes() == second.to_arrays()[name].tobytes()
    whole = first.score(section.vectors, section.depth)
    some = np.array([700, 20, 1500])
    assert np.allclose(first.score(section.vectors[some], section.depth[some]), whole[some], atol=1e-4)


def test_arrays_bring_it_back_and_broken_ones_are_refused(section: Section) -> None:
    fitted = section.fit(8)
    arrays = fitted.to_arrays()
    again = UnknownScore.from_arrays({"bias": np.zeros(3), **arrays})
    assert again is not None
    assert np.array_equal(
        again.score(section.vectors[1:], section.depth[1:]), fitted.score(section.vectors[1:], section.depth[1:])
    )
    assert UnknownScore.from_arrays({"bias": np.zeros(3)}) is None
    with pytest.raises(ValueError, match="do not fit"):
        UnknownScore.from_arrays({**arrays, "unknown_novelty": np.zeros(2)})


def test_held_out_cells_of_a_trained_encoder_set_the_reference(section: Section) -> None:
    others = np.concatenate([np.flatnonzero(section.kind == k)[100:180] for k in range(3)])
    score = section.fit(8, held_out=(others, section.kind[others])).score(section.vectors, section.depth)
    known = score[(section.kind < 3) & (section.depth > 0)]
    assert np.mean(known > 0.9) == pytest.approx(0.1, abs=0.08)


def test_three_cells_are_enough(section: Section) -> None:
    few = np.array([5, 700, 1200])
    fitted = fit_unknown(section.vectors[few], section.counts[few], [0, 1], [0, 1])
    assert np.isfinite(fitted.score(section.vectors[few], section.depth[few])).all()
