"""``stplm perturb`` from a shell."""

from __future__ import annotations

from contextlib import nullcontext
from pathlib import Path

import anndata as ad
import numpy as np
import pandas as pd
import pytest

import stplm
from stplm import cli, cli_perturb
from stplm.tasks.perturb_result import Perturbation


@pytest.fixture(scope="module")
def section(demo_path: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """250 cells of the demo section, with the side they lie on as a class."""
    table = stplm.cell_table(stplm.read_section(demo_path, images=False, labels=False))
    table = table[np.argsort(table.obsm["spatial"][:, 0])[:250]].copy()
    table.obs["side"] = np.where(table.obsm["spatial"][:, 1] > np.median(table.obsm["spatial"][:, 1]), "up", "down")
    path = tmp_path_factory.mktemp("perturb") / "section.h5ad"
    with ad.settings.override(allow_write_nullable_strings=True):
        table.write_h5ad(path)
    return path


def test_genes_are_ranked_and_the_folder_reads_back(
    section: Path, tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    out = tmp_path / "out"
    words = ["perturb", section, "--genes", "EPCAM,KRT8", "--labels", "side", "--cells", "side=up", "--goal", "down"]
    assert cli.main([str(w) for w in [*words, "--nulls", 3, "--out", out]]) == 0
    said = capsys.readouterr().out
    assert "not a causal claim" in said
    assert "2 of 2 detected" in said
    found = Perturbation.load(out)
    assert list(found.genes["genes"]) == ["EPCAM", "KRT8"]
    assert found.info["effect"] == "to_goal"
    assert found.info["cells"] == 125
    assert pd.read_parquet(out / "genes.parquet")["fdr"].notna().all()


def test_classes_of_a_file_are_those_of_memory(section: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    words = ["perturb", section, "--genes", "EPCAM", "--labels", "side", "--cells", "class=up"]
    words += ["--max-cells", 100, "--nulls", 3, "--out"]
    assert cli.main([str(w) for w in [*words, tmp_path / "file"]]) == 0
    assert sorted(p.name for p in tmp_path.iterdir()) == ["file"], "nothing is left beside it"
    monkeypatch.setattr(cli_perturb, "as_table_file", lambda *_: nullcontext(None))
    assert cli.main([str(w) for w in [*words, tmp_path / "memory"]]) == 0
    found, expected = (Perturbation.load(tmp_path / name) for name in ("file", "memory"))
    pd.testing.assert_frame_equal(found.genes, expected.genes)
    assert found.info["run"] == expected.info["run"]
    assert found.info["cells"] == 100


def test_a_wrong_class_is_a_sentence(section: Path, tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    words = [
        "perturb",
        section,
        "--genes",
        "EPCAM",
        "--labels",
        "none",
        "--cells",
        "side=left",
        "--out",
        tmp_path / "o",
    ]
    assert cli.main([str(w) for w in words]) == 1
    assert "No cell has 'left' there." in capsys.readouterr().err
