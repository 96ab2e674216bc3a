"""The report: everything that was found, in one file that needs no other."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from anndata import AnnData

import stplm
from stplm import cli, keys
from stplm.errors import ExportError, LabelError
from stplm.evaluation.learning_curve import HeldOut
from stplm.report.parts import grid_of_counts, grid_of_shares, grid_of_z
from stplm.report.report import write_report

pytestmark = pytest.mark.usefixtures("coarse")


@pytest.fixture(scope="module")
def found(demo_path: Path) -> AnnData:
    """The demo section's cells, classified from the profiles' seeds, with niches, a map and an imputed gene."""
    table = stplm.cell_table(stplm.read_section(demo_path, images=False, labels=False))
    stplm.embed(table)
    stplm.predict(table, stplm.fit_classifier(table, stplm.seed_labels(table), seeded=True))
    stplm.niches(table, n=4)
    stplm.impute(table, genes=["EPCAM"])
    table.obsm[keys.UMAP] = table.obsm[keys.X_STPLM][:, :2].astype(np.float32)
    wrong = np.arange(table.n_obs) % 10 == 0
    truth = table.obs[keys.CLASS].astype(object).where(~wrong, "Stromal")
    table.obs["annotation"] = pd.Categorical(truth)
    return table


def test_all_that_was_found_is_in_it(found: AnnData, tmp_path: Path) -> None:
    steps = [{"step": "classify", "params": {"labels": {"Tumour": ["a", "b"]}, "seed": 0}}]
    result = stplm.perturb(found, genes=["EPCAM", "ERBB2"], cells=np.arange(60), nulls=3)
    scored = HeldOut(("Stromal", "Tumour"), np.array([6, 10]), np.array([[5, 1], [2, 7]]), False)
    page = write_report(
        found, tmp_path / "r.html", truth="annotation", held_out=scored, perturbations=[result], steps=steps
    )
    text = page.read_text(encoding="utf-8")
    for heading in ("report", "Against annotation", "tell the classes apart", "Neighbourhood enrichment", "Niches"):
        assert heading in text
    for heading in ("UMAP", "Imputed genes", "not a causal claim", "Steps", "Embedding", "ERBB2"):
        assert heading in text
    assert "Tumour: 2 cells" in text
    assert "In-silico perturbation: delete EPCAM, ERBB2" in text
    assert "model tissue-breast, mode delete, cells 60, measure cell, effect shift, seed 0" in text
    assert "16 labels, 15 of them held out in turn by draw" in text
    assert HeldOut.of(scored.to_dict()).to_dict() == scored.to_dict()
    accuracy = float(re.search(r"accuracy ([\d.]+)", text).group(1))
    assert 0.85 < accuracy < 0.95
    assert not re.search(r'(src|href)="(?!data:)', text), "it must need no other file"
    assert found.uns[keys.UNS][keys.UNS_EMBEDDING]["sha256"] in text


def test_what_it_lacks_is_said(found: AnnData, tmp_path: Path) -> None:
    bare = found.copy()
    del bare.obsm[keys.UMAP], bare.obsm[keys.SPATIAL]
    text = write_report(bare, tmp_path / "r.html").read_text(encoding="utf-8")
    assert "Not in this report" in text
    assert "no UMAP" in text
    assert "no positions" in text
    assert "Against" not in text


def test_cells_that_were_learnt_from_are_not_scored(found: AnnData, tmp_path: Path) -> None:
    labelled = found.copy()
    own = np.where(np.arange(found.n_obs) < 100, found.obs[keys.CLASS].astype(object), None)
    labelled.obs[keys.LABEL] = pd.Categorical(own)
    text = write_report(labelled, tmp_path / "r.html", truth="annotation").read_text(encoding="utf-8")
    assert "100 cells that the classifier learnt from were left out" in text


def test_grids() -> None:
    shares = grid_of_shares(pd.DataFrame([[1.0, 0.0], [0.25, 0.75]], ["a", "b"], ["a", "b"]))
    assert shares["columns"] == ["a", "b"]
    assert shares["rows"][0] == ("a", [("1.00", "#4095c5"), ("", "#ffffff")])
    counts = grid_of_counts(pd.DataFrame([[3, 0], [0, 0]], ["a", "b"], ["a", "b"]))
    assert [text for text, _ in counts["rows"][0][1]] == ["3", ""]
    red, blue = (grid_of_z(pd.DataFrame([[v]]))["rows"][0][1][0][1] for v in (5.0, -5.0))
    assert red != blue


def test_refusals(found: AnnData, tmp_path: Path) -> None:
    with pytest.raises(LabelError):
        write_report(found, tmp_path / "r.html", truth="nothing")
    with pytest.raises(ExportError):
        write_report(found, tmp_path / "r.pdf")
    assert not list(tmp_path.iterdir())


def test_from_the_command_line(found: AnnData, tmp_path: Path) -> None:
    section = tmp_path / "s.h5ad"
    stplm.export(found, section)
    assert cli.main(["report", str(section), "--truth", "annotation", "--out", str(tmp_path / "r.html")]) == 0
    assert "Against annotation" in (tmp_path / "r.html").read_text(encoding="utf-8")
