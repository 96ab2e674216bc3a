"""Reference profiles: the shipped ones, one's own, and tables that are none."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from scipy.sparse import csr_matrix

from stplm.errors import StplmError
from stplm.paths import resource
from stplm.tasks.profiles import load_profiles, log_likelihood_ratios


def test_the_shipped_ones() -> None:
    profiles = load_profiles("breast")
    assert "Tumour" in profiles.classes
    assert profiles.shares.shape == (len(profiles.classes), len(profiles.genes))
    np.testing.assert_allclose(profiles.shares.sum(1), 1)
    assert len(set(profiles.genes)) == len(profiles.genes) > 300


def test_a_pure_cell_fits_its_own_class_best() -> None:
    profiles = load_profiles("breast")
    columns, log_ratio = profiles.restrict(np.array(profiles.genes))
    assert np.array_equal(columns, np.arange(len(profiles.genes)))
    cells = csr_matrix(np.round(profiles.shares * 300))
    assert list(log_likelihood_ratios(cells, log_ratio).argmax(1)) == list(range(len(profiles.classes)))


def test_genes_in_any_order_and_unknown_ones_between() -> None:
    profiles = load_profiles("breast")
    genes = np.array(["", "ENSG99999999999", *reversed(profiles.genes[:80])])
    columns, log_ratio = profiles.restrict(genes)
    assert list(columns) == list(range(2, 82))
    forward = profiles.restrict(np.array(profiles.genes[:80]))[1]
    np.testing.assert_allclose(log_ratio[:, ::-1], forward)


def test_a_panel_that_shares_too_few_genes_cannot_be_scored() -> None:
    profiles = load_profiles("breast")
    columns, log_ratio = profiles.restrict(np.array(profiles.genes[:49]))
    assert len(columns) == 0
    assert log_ratio.shape == (len(profiles.classes), 0)


def test_ones_own_table(tmp_path: Path) -> None:
    frame = pd.read_csv(resource("profiles/breast.csv"), index_col=0).iloc[:3]
    frame.to_csv(tmp_path / "mine.csv")
    assert load_profiles(tmp_path / "mine.csv").classes == tuple(frame.index)


def test_an_edited_table_is_read_again(tmp_path: Path) -> None:
    frame = pd.read_csv(resource("profiles/breast.csv"), index_col=0)
    path = tmp_path / "mine.csv"
    frame.iloc[:3].to_csv(path)
    assert len(load_profiles(path).classes) == 3
    frame.iloc[:4].to_csv(path)
    os.utime(path, ns=(1, 1))
    assert len(load_profiles(path).classes) == 4


@pytest.mark.parametrize("content", [b"", b"\xff\xfe\x00\x01" * 10, b"a,b\n1,2,3\n1,2,3,4,5\n"])
def test_files_that_are_no_csv(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "mine.csv"
    path.write_bytes(content)
    with pytest.raises(StplmError, match="cannot be read") as caught:
        load_profiles(path)
    assert caught.value.where == str(path)


@pytest.mark.parametrize("wrong", ["missing", "text", "one class", "negative", "few genes", "foreign genes"])
def test_tables_that_are_no_profiles(tmp_path: Path, wrong: str) -> None:
    frame = pd.read_csv(resource("profiles/breast.csv"), index_col=0)
    path = tmp_path / f"{wrong}.csv"
    match wrong:
        case "text":
            frame = frame.astype(object)
            frame.iloc[0, 0] = "much"
        case "one class":
            frame = frame.iloc[:1]
        case "negative":
            frame = -frame
        case "few genes":
            frame = frame.iloc[:, :20]
        case "foreign genes":
            frame.columns = [f"Gm{i}" for i in range(frame.shape[1])]
    if wrong != "missing":
        frame.to_csv(path)
    with pytest.raises(StplmError, match=r"profiles|number"):
        load_profiles(path)


def test_a_name_that_is_not_shipped() -> None:
    with pytest.raises(StplmError, match="no such reference profiles"):
        load_profiles("kidney")
