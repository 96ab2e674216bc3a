"""What the tissue can be coloured by, and the colours that cells then have."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from stplm import keys
from stplm.tokens.counts import gene_counts
from stplm_napari.colourings import (
    CELLS,
    LABEL,
    NO_LABEL,
    Categories,
    Colouring,
    Kind,
    Numbers,
    Source,
    add_kind,
    numbers,
)
from stplm_napari.layers import make_layers
from stplm_napari.paint import paint
from stplm_napari.session import Session

N = 144


@pytest.fixture
def session(grid_section: Any, tmp_path: Path) -> Session:
    table = grid_section.tables[keys.TABLE]
    table.obs["area"] = np.linspace(10.0, 90.0, N)
    table.obs["note"] = pd.Series(["left", "right", None] * (N // 3), index=table.obs_names, dtype=object)
    table.obs["empty"] = 0
    session = Session()
    session.open(grid_section, table, path=tmp_path / "outs")
    return session


@pytest.fixture
def rgba(session: Session, grid_section: Any) -> Callable[[], np.ndarray]:
    overlay = make_layers(grid_section).overlay

    def painted() -> np.ndarray:
        paint(overlay, session)
        return overlay.rgba()

    return painted


def test_columns_are_offered_when_they_tell_cells_apart(session: Session) -> None:
    offered = {source.key: source.group for source in session.sources.offered()}
    assert offered["obs:n_counts"] == "Quality"
    assert offered["obs:area"] == offered["obs:kind"] == offered["obs:note"] == "Columns"
    assert not offered.keys() & {"obs:empty", "obs:cell_id", "obs:region", "obs:cell_labels", "class", "cluster"}
    assert session.sources.find("gene:ERBB2").words == "ERBB2"
    assert session.sources.find("gene:NOGENE") is None


def test_a_gene_brightens_with_its_counts_and_the_range_can_be_moved(session: Session, rgba: Any) -> None:
    counts = session.table.X[:, 2].toarray().ravel()
    session.colour(by="gene:ERBB2")
    colours = rgba()
    most, least = colours[counts == counts.max(), :3].sum(1), colours[counts == 0, :3].sum(1)
    assert most.min() > least.max() + 1
    session.colour(ranges={"gene:ERBB2": (0.0, 1.0)})
    colours = rgba()
    assert len(np.unique(colours[counts >= 1], axis=0)) == 1, "all above the range have the last colour"
    assert len(np.unique(colours, axis=0)) == 2


def test_a_logarithmic_scale_moves_the_middle_up(session: Session, rgba: Any) -> None:
    session.colour(by="obs:n_counts", ranges={"obs:n_counts": (0.0, 300.0)})
    plain = rgba()
    session.colour(logs=frozenset({"obs:n_counts"}))
    middle = np.argsort(session.table.obs[keys.N_COUNTS].to_numpy())[N // 4]
    assert not np.allclose(rgba()[middle], plain[middle])


def test_a_text_column_has_a_colour_a_name_and_cells_without_one_are_left_out(session: Session, rgba: Any) -> None:
    session.colour(by="obs:note")
    colours = rgba()
    assert (colours[2::3, 3] == 0).all()
    assert np.unique(colours[0::3], axis=0).shape[0] == 1
    assert not np.allclose(colours[0], colours[1])
    assert session.sources.of("obs:note").counts() == {"left": N // 3, "right": N // 3}


def test_hidden_categories_are_transparent_and_out_of_reach(session: Session, rgba: Any) -> None:
    session.colour(by="obs:kind")
    session.colour(**session.colouring.hiding(frozenset({"odd"})))
    assert (rgba()[1::2, 3] == 0).all()
    assert (rgba()[0::2, 3] > 0).all()
    assert list(session.shown(np.array([0, 1, 2, 3]))) == [0, 2]
    session.colour(by="obs:note")
    assert list(session.shown(np.array([0, 1]))) == [0, 1], "another source hides nothing"
    session.colour(by="obs:kind")
    assert session.colouring.hidden_now == {"odd"}


def test_only_own_labels(session: Session, rgba: Any) -> None:
    session.label_rows([4, 5], "Tumour")
    session.label_rows([6], "Stromal")
    session.colour(by=LABEL)
    counts = session.sources.of(LABEL).counts()
    assert (counts["Tumour"], counts["Stromal"], counts[NO_LABEL]) == (2, 1, N - 3)
    colours = rgba()
    assert np.allclose(colours[4], colours[5])
    assert not np.allclose(colours[4], colours[6])
    session.colour(hidden=frozenset({"Tumour"}))
    assert list(rgba()[[4, 5, 6], 3] > 0) == [False, False, True]


def test_more_categories_than_colours_become_other(session: Session) -> None:
    session.table.obs["many"] = pd.Categorical([f"{max(i, 100)}" for i in range(N)], [f"{i}" for i in range(400)])
    session.sources.renew()
    shown = session.sources.of("obs:many")
    assert len(shown.names) == 252
    assert shown.names[-1] == "other"
    assert shown.counts()["100"] == 101


def test_a_feature_adds_values_of_its_own_and_takes_them_away(session: Session, rgba: Any) -> None:
    heard = []
    session.sources_changed.connect(lambda: heard.append(1))
    values = numbers(np.linspace(-1, 1, N), -1, 1, cmap="RdBu_r", words="the model's response")
    session.sources.put(Source("shift:KO", "Shift after KO", "Perturbation"), values)
    session.colour(by="shift:KO")
    colours = rgba()
    assert colours[0, 2] > colours[0, 0]
    assert colours[-1, 0] > colours[-1, 2]
    assert heard
    with pytest.raises(ValueError, match="one value per cell"):
        session.sources.put(Source("shift:x", "x"), numbers(np.zeros(3)))
    session.sources.drop("shift:")
    assert session.sources.of("shift:KO") is None
    assert (rgba()[:, 3] == 0).all(), "nothing is left to show"


def test_a_feature_adds_a_kind_that_is_asked_only_when_shown(session: Session, monkeypatch: Any) -> None:
    from stplm_napari import colourings

    monkeypatch.setattr(colourings, "_kinds", dict(colourings._kinds))
    asked = []

    def resolve(of: Session, name: str) -> Numbers:
        asked.append(name)
        return numbers(np.arange(of.table.n_obs))

    add_kind(Kind("imputed", lambda of: [Source("imputed:X", "X (imputed)")], resolve, slow=True))
    assert session.sources.is_slow("imputed:X")
    assert not asked
    for _ in range(2):
        session.sources.of("imputed:X")
    assert asked == ["X"]
    session.sources.renew()
    session.sources.of("imputed:X")
    assert asked == ["X", "X"], "a new result is another question"


def test_a_colouring_survives_json() -> None:
    how = Colouring(
        CELLS, 0.3, frozenset({"B"}), {"A": 0.5}, {"obs:k": frozenset({"x"})}, {"gene:A": (0.0, 3.5)}, frozenset({"y"})
    )
    assert Colouring.from_json(json.loads(json.dumps(how.to_json()))) == how
    assert Colouring.from_json({"by": "class"}) == Colouring("class")


def test_ranges_leave_out_the_extremes_and_are_never_empty() -> None:
    found = numbers(np.r_[np.zeros(900), np.ones(95), np.full(5, 1000)], is_count=True)
    assert found.lo == 0
    assert found.bounds == (0, 1000)
    assert 1 <= numbers(np.r_[np.zeros(900), np.ones(99), 1000], is_count=True).hi < 20
    assert numbers(np.zeros(5)).hi > 0
    assert numbers(np.full(5, np.nan)).bounds == (0, 1)


@pytest.mark.parametrize("form", ["csr", "csc", "dense"])
def test_counts_of_one_gene(form: str) -> None:
    import scipy.sparse as sp

    counts = np.random.default_rng(0).poisson(0.7, (70_000, 6)).astype(np.int32)
    matrix = {"csr": sp.csr_matrix, "csc": sp.csc_matrix, "dense": np.asarray}[form](counts)
    for gene in (0, 5):
        assert np.array_equal(gene_counts(matrix, gene), counts[:, gene])


def test_categories_name_their_rows() -> None:
    shown = Categories(np.array([0, 1, -1, 1]), ["a", "b"], ["#000000", "#FFFFFF"])
    assert list(shown.rows("b")) == [1, 3]
    assert shown.counts() == {"a": 1, "b": 2}
