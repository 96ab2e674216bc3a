"""The command line: every task once on small input, and errors that are sentences."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import anndata as ad
import numpy as np
import pandas as pd
import pytest

import stplm
from stplm import cli, keys
from stplm.io.export import read_explorer_groups, read_geojson
from stplm.simulation import TRUTH
from stplm.tasks import adapt
from stplm.tokens.encoded import RankTokens
from stplm.tokens.medians import load_medians

TASKS = (
    *("info", "tokenize", "medians", "embed", "classify", "evaluate", "export", "pretrain", "adapt"),
    *("impute", "report", "simulate", "demo", "gui"),
)


def run(*words: object) -> None:
    """Run a task that must succeed."""
    assert cli.main([str(word) for word in words]) == 0


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A simulated section of 400 cells, written by ``stplm simulate``."""
    folder = tmp_path_factory.mktemp("cli") / "section"
    run("simulate", folder, "--cells", 400, "--seed", 3)
    return folder


@pytest.fixture(scope="module")
def truth(bundle: Path) -> pd.Series:
    return pd.read_parquet(bundle / TRUTH).set_index("cell_id")["class"]


@pytest.fixture(scope="module")
def section(bundle: Path, truth: pd.Series) -> Path:
    """The same cells as .h5ad, with the truth as a column, and labels for four cells a class."""
    table = stplm.cell_table(stplm.read_section(bundle, images=False, labels=False))
    table.obs["truth"] = truth.reindex(table.obs_names).astype("category")
    first = table.obs.groupby("truth", observed=True).cumcount() < 4
    table.obs["clicked"] = table.obs["truth"].where(first)
    path = bundle.parent / "section.h5ad"
    table.write_h5ad(path)
    return path


@pytest.fixture(scope="module")
def embedded(section: Path) -> Path:
    path = section.with_name("embedded.h5ad")
    run("embed", section, "--out", path)
    return path


@pytest.fixture(scope="module")
def classified(embedded: Path) -> Path:
    path = embedded.with_name("classified.h5ad")
    summary = path.with_suffix(".html")
    run("classify", embedded, "--labels", "clicked", "--out", path, "--summary", summary)
    return path


@pytest.mark.parametrize("task", TASKS)
def test_help(task: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as stop:
        cli.main([task, "--help"])
    assert stop.value.code == 0
    assert f"usage: stplm {task}" in capsys.readouterr().out


def test_help_lists_every_task(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        cli.main(["--help"])
    told = capsys.readouterr().out
    assert all(f"\n    {task} " in told for task in TASKS)
    with pytest.raises(SystemExit):
        cli.main(["--version"])
    assert capsys.readouterr().out.strip() == stplm.__version__


def test_info(bundle: Path, classified: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run("info", bundle)
    told = capsys.readouterr().out
    assert "kind: xenium" in told
    assert "n_cells: 400" in told
    assert "Classified" not in told
    run("info", classified)
    told = capsys.readouterr().out
    assert "Embedded with: tissue-breast" in told
    assert "Classified from" in told
    assert "T cell" in told


def test_simulate(bundle: Path, truth: pd.Series) -> None:
    table = stplm.cell_table(stplm.read_section(bundle))
    assert table.n_obs == 400
    assert set(truth.index) == set(table.obs_names)


def test_tokenize(section: Path, tmp_path: Path) -> None:
    run("tokenize", section, "--out", tmp_path / "tokens")
    assert len(RankTokens.load(tmp_path / "tokens")) == 400
    run("tokenize", section, "--out", tmp_path / "tokens", "--medians", "lung", "--mode", "geneformer")
    assert RankTokens.load(tmp_path / "tokens").offsets[-1] > 400


def test_medians(section: Path, tmp_path: Path) -> None:
    run("medians", section, section, "--out", tmp_path / "medians.csv")
    medians = load_medians(tmp_path / "medians.csv")
    assert len(medians) > 200
    assert (medians > 0).all()


def test_embed(embedded: Path) -> None:
    vectors = ad.read_h5ad(embedded).obsm[keys.X_STPLM]
    assert vectors.shape == (400, stplm.load_model().dim)
    assert np.isfinite(vectors).all()


def test_classify_and_evaluate(classified: Path, capsys: pytest.CaptureFixture[str]) -> None:
    table = ad.read_h5ad(classified)
    assert (table.obs[keys.CLASS].astype(str) == table.obs["truth"].astype(str)).mean() > 0.8
    assert "<html" in classified.with_suffix(".html").read_text(encoding="utf-8")
    capsys.readouterr()
    run("evaluate", classified, "--truth", "truth")
    score = json.loads(capsys.readouterr().out)
    assert score["n_cells"] == 400
    assert score["accuracy"] > 0.8


def test_classify_embeds_first_and_takes_labels_from_a_file(section: Path, truth: pd.Series, tmp_path: Path) -> None:
    names = truth[truth.isin(["T cell", "Stromal"])].replace("T cell", "Lymphocyte #1")
    few = names.groupby(names).head(5)
    rows = "".join(f"{cell},{name},#FF0000\n" for cell, name in few.items())
    labels = tmp_path / "labels.csv"
    labels.write_text(
        "#Selection name: mine\n#Area: 12\ncell_id,group,color\n" + rows + f"{names.index[-1]},Unassigned,\n"
    )
    run("classify", section, "--labels", labels, "--out", tmp_path / "groups.csv", "--tumour-classes", "Stromal")
    groups = read_explorer_groups(tmp_path / "groups.csv")
    assert set(groups["group"]) == {"Lymphocyte #1", "Stromal"}
    assert len(groups) == 400


def test_impute(section: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run("impute", section, "--genes", "EPCAM", "CD3E", "--out", tmp_path / "genes.parquet")
    assert "EPCAM: from the panel" in capsys.readouterr().out
    found = pd.read_parquet(tmp_path / "genes.parquet")
    assert list(found.columns) == ["EPCAM", "CD3E"]
    run("impute", section, "--genes", "EPCAM", "--out", tmp_path / "all.h5ad")
    assert ad.read_h5ad(tmp_path / "all.h5ad").obsm[keys.IMPUTED].shape == (len(found), 1)


def test_export(classified: Path, tmp_path: Path) -> None:
    run("export", classified, "--out", tmp_path / "cells.geojson")
    cells, units = read_geojson(tmp_path / "cells.geojson")
    assert len(cells) == 400
    assert units == "microns"
    run("export", classified, "--out", tmp_path / "cells.geojson", "--overwrite")
    run("export", classified, "--out", tmp_path / "section.zarr")
    table = stplm.cell_table(stplm.read_section(tmp_path / "section.zarr"))
    assert table.obs[keys.CLASS].notna().sum() > 390


def test_pretrain_adapt_and_use_them(section: Path, tmp_path: Path) -> None:
    run("pretrain", section, "--out", tmp_path / "new", "--steps", 2, "--name", "mine")
    assert stplm.load_model(tmp_path / "new").name == "mine"
    run("adapt", section, "--model", tmp_path / "new", "--out", tmp_path / "adapted", "--steps", 2)
    run("embed", section, "--model", tmp_path / "adapted", "--out", tmp_path / "vectors.h5ad")
    about = ad.read_h5ad(tmp_path / "vectors.h5ad").uns[keys.UNS][keys.UNS_EMBEDDING]
    assert about["model"] == "mine+adapted"


def test_a_strange_panel_is_adapted_to_unasked_and_not_where_that_is_said(
    section: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setitem(adapt.STEPS, "tissue", 2)
    monkeypatch.setattr(adapt, "FEWEST_CELLS", 100)
    table = ad.read_h5ad(section)
    ids = table.var[keys.ENSEMBL_ID].astype(object).to_numpy()
    ids[100:] = ""
    table.var = table.var.set_axis([f"probe-{i}" for i in range(table.n_vars)]).assign(**{keys.ENSEMBL_ID: ids})
    with ad.settings.override(allow_write_nullable_strings=True):
        table.write_h5ad(tmp_path / "strange.h5ad")
    for words, adapted in (((), True), (("--no-adapt",), False)):
        run("embed", tmp_path / "strange.h5ad", "--out", tmp_path / "out.h5ad", *words)
        about = ad.read_h5ad(tmp_path / "out.h5ad").uns[keys.UNS][keys.UNS_EMBEDDING]
        assert bool(about["adapted"]) == adapted
        assert ("--adapt learns the others" in capsys.readouterr().out) != adapted
    kept = tmp_path / "kept"
    run("classify", tmp_path / "strange.h5ad", "--out", tmp_path / "called.h5ad", "--keep-adapted", kept)
    about = ad.read_h5ad(tmp_path / "called.h5ad").uns[keys.UNS][keys.UNS_EMBEDDING]
    assert about["adapted"]
    assert stplm.load_model(kept).fingerprint() == about["sha256"]


def test_demo_writes_everything_and_needs_no_display(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(cli, "_has_display", lambda: False)
    run("demo", "--out", tmp_path / "out")
    wanted = {
        *("summary.html", "tissue_by_class.png", "tissue_by_tumour_call.png", "section.h5ad", "cell_groups.csv"),
        *("cells.geojson", "tables/cells.csv", "tables/class_counts.csv"),
    }
    files = [file for file in (tmp_path / "out").rglob("*") if file.is_file()]
    assert {file.relative_to(tmp_path / "out").as_posix() for file in files} == wanted
    assert min(file.stat().st_size for file in files) > 100
    told = capsys.readouterr().out
    assert "Seeded" in told
    assert "No display" in told
    page = (tmp_path / "out" / "summary.html").read_text(encoding="utf-8")
    assert "Nobody labelled these cells" in page


def test_the_window_opens_on_the_section(monkeypatch: pytest.MonkeyPatch) -> None:
    opened: list[str | None] = []
    monkeypatch.setattr(cli, "_open_window", opened.append)
    run("gui")
    run("gui", "outs")
    assert opened == [None, "outs"]


def test_the_window_without_napari(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setitem(sys.modules, "stplm_napari.window", None)
    assert cli.main(["gui"]) == 1
    assert 'pip install "stplm-napari[gui]"' in capsys.readouterr().err


def _refused(capsys: pytest.CaptureFixture[str], *words: object) -> str:
    """What a task that must fail says; never a traceback."""
    capsys.readouterr()
    assert cli.main([str(word) for word in words]) == 1
    said = capsys.readouterr().err
    assert said.startswith("stplm: ")
    assert "Traceback" not in said
    return said


def test_errors_of_the_input(section: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "out.h5ad"
    assert "no such file" in _refused(capsys, "info", tmp_path / "none")
    (tmp_path / "broken.h5ad").write_bytes(b"no HDF5")
    assert "not an HDF5 file" in _refused(capsys, "embed", tmp_path / "broken.h5ad", "--out", out)
    assert "no model 'missing'" in _refused(capsys, "embed", section, "--model", "missing", "--out", out)
    assert "device" in _refused(capsys, "embed", section, "--device", "abacus", "--out", out)
    assert "No class" in _refused(capsys, "evaluate", section, "--truth", "truth")
    assert "No cell has a class" in _refused(capsys, "export", section, "--out", tmp_path / "cells.csv")
    assert "median table" in _refused(capsys, "tokenize", section, "--medians", "spleen", "--out", tmp_path / "t")
    assert not out.exists()


def test_errors_of_the_labels(embedded: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    def said(labels: object) -> str:
        return _refused(capsys, "classify", embedded, "--labels", labels, "--out", tmp_path / "out.h5ad")

    assert "no column 'mine'" in said("mine")
    assert "cannot be read" in said(tmp_path / "none.csv")
    (tmp_path / "other.csv").write_text("name,value\na,1\n")
    assert "not a table of labels" in said(tmp_path / "other.csv")
    (tmp_path / "empty.csv").write_text("")
    assert "cannot be read" in said(tmp_path / "empty.csv")
    (tmp_path / "strange.csv").write_text("cell_id,class\nx,A\ny,B\n")
    assert "not in this section" in said(tmp_path / "strange.csv")


@pytest.mark.parametrize(
    ("words", "reason"),
    [
        (("embed", "IN", "--out", "cells.csv"), ".h5ad or .zarr only"),
        (("embed", "IN", "--out", "cells"), "does not say which format"),
        (("embed", "IN", "--out", "none/cells.h5ad"), "does not exist"),
        (("embed", "--sections", "IN", "--out", "cohort", "--keep-adapted", "kept"), "Several sections"),
        (("classify", "IN", "--out", "none/cells.h5ad"), "does not exist"),
        (("classify", "IN", "--out", "cells.h5ad", "--summary", "page.pdf"), "HTML"),
        (("classify", "IN", "--out", "cells.h5ad", "--labels", "none.csv"), "cannot be read"),
        (("tokenize", "IN", "--out", "none/tokens"), "does not exist"),
        (("medians", "IN", "--out", "none/medians.csv"), "does not exist"),
        (("export", "IN", "--out", "taken.h5ad"), "exists already"),
        (("pretrain", "IN", "--out", "taken"), "exists already"),
        (("adapt", "IN", "--out", "taken"), "exists already"),
        (("demo", "--out", "taken.h5ad"), "cannot be made"),
    ],
)
def test_a_bad_output_is_told_before_the_work(
    words: tuple[str, ...],
    reason: str,
    section: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    (tmp_path / "taken.h5ad").write_text("old")
    (tmp_path / "taken").mkdir()
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(stplm, "read_section", lambda *_, **__: pytest.fail("it began to work"))
    assert reason in _refused(capsys, *(str(section) if word == "IN" else word for word in words))
    assert (tmp_path / "taken.h5ad").read_text() == "old"


def test_a_folder_of_something_else_is_never_replaced(
    section: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "thesis").mkdir()
    (tmp_path / "thesis" / "chapter.txt").write_text("years of work")
    for words in (("tokenize", section, "--out"), ("export", section, "--overwrite", "--out")):
        ending = ".zarr" if words[0] == "export" else ""
        target = (tmp_path / "thesis").rename(tmp_path / f"thesis{ending}")
        assert "will not be replaced" in _refused(capsys, *words, target)
        assert (target / "chapter.txt").read_text() == "years of work"
        target.rename(tmp_path / "thesis")
    assert "not empty" in _refused(capsys, "simulate", tmp_path / "thesis", "--cells", 50)


@pytest.mark.parametrize("words", [("simulate", "x", "--cells", "0"), ("adapt", "x", "--out", "y", "--steps", "-1")])
def test_numbers_that_make_no_sense(words: tuple[str, ...], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as stop:
        cli.main(words)
    assert stop.value.code == 2
    assert "not a whole number above 0" in capsys.readouterr().err


def test_stopping_by_hand(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    def interrupted(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(stplm, "read_section", interrupted)
    assert cli.main(["info", "anything"]) == 130
    assert capsys.readouterr().err == "stplm: stopped.\n"


def test_errors_of_the_system_are_no_traceback(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def fails(*_: object, **__: object) -> None:
        raise OSError(5, "Input/output error", "outs/cells.parquet")

    monkeypatch.setattr(stplm, "read_section", fails)
    assert "Input/output error" in _refused(capsys, "info", "outs")
