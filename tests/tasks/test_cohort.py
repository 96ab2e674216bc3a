"""Recipes on many sections: the same bytes as by hand, resume after a kill, failures told at the end."""

from __future__ import annotations

import os
import shutil
from pathlib import Path
from typing import TYPE_CHECKING

import anndata
import dask
import numpy as np
import pandas as pd
import pytest
from anndata import AnnData

import stplm
from stplm import keys
from stplm.cli import main
from stplm.tasks import batch
from stplm.tasks.cohort import ClassifyRecipe, EmbedRecipe, RunRecipe, read_run_recipe, write_run_recipe
from stplm.tasks.recipes import RecipeError

if TYPE_CHECKING:
    from distributed import Client

    from stplm.tasks.classifier import Classifier


@pytest.fixture
def cohort(few: AnnData, tmp_path: Path) -> Path:
    """A folder of two sections, one that is cut off, and a note."""
    folder = tmp_path / "cohort"
    folder.mkdir()
    few.write_h5ad(folder / "a.h5ad")
    shutil.copy(folder / "a.h5ad", folder / "c.h5ad")
    (folder / "b.h5ad").write_bytes((folder / "a.h5ad").read_bytes()[:3000])
    (folder / "notes.txt").write_text("seen by two")
    return folder


@pytest.fixture
def recipe(classifier: Classifier, tmp_path: Path) -> Path:
    """A recipe with a classifier beside it."""
    classifier.save(tmp_path / "nest_classifier")
    made = RunRecipe(ClassifyRecipe(tmp_path / "nest_classifier"), exports=("explorer", "h5ad"), report=False)
    return write_run_recipe(made, tmp_path / "nest.yaml")


def test_a_recipe_reads_back_as_it_was_written(recipe: Path, tmp_path: Path) -> None:
    read = read_run_recipe(recipe)
    assert read == RunRecipe(ClassifyRecipe(tmp_path / "nest_classifier"), exports=("explorer", "h5ad"), report=False)
    assert "classifier: nest_classifier" in recipe.read_text()
    moved = tmp_path / "elsewhere"
    moved.mkdir()
    shutil.move(recipe, moved / "nest.yaml")
    shutil.move(tmp_path / "nest_classifier", moved / "nest_classifier")
    assert read_run_recipe(moved / "nest.yaml").classify.classifier == moved / "nest_classifier"
    full = RunRecipe(
        ClassifyRecipe(profiles="breast", per_class=9, shares="fitted", tumour_classes=("DCIS",)),
        EmbedRecipe(neighbours=False, seed=3),
        exports=(),
        colours={"DCIS": "#D55E00"},
        sections=(tmp_path / "cohort" / "*",),
        out=tmp_path / "out",
    )
    assert read_run_recipe(write_run_recipe(full, tmp_path / "full.yaml")) == full


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("classify: {profiles: breast}\nexport: [h5ad]\n", "line 2.*Did you mean 'exports'"),
        ("classify: {profiles: breast}\nexports: [pdf]\n", "'pdf'.*line 2"),
        ("exports: [h5ad]\n", "'classify' is missing"),
        ("classify: {profiles: breast, column: kind}\n", "profiles and column"),
        ("classify: {}\n", "none of them"),
        ("classify: {classifier: not_there}\n", "not there"),
        ("classify: {profiles: breast}\nstplm: 9\n", "format 9"),
        ("classify: [", "not YAML"),
    ],
)
def test_what_is_wrong_with_a_recipe_is_told(tmp_path: Path, text: str, words: str) -> None:
    (tmp_path / "r.yaml").write_text(text)
    with pytest.raises(RecipeError) as error:
        read_run_recipe(tmp_path / "r.yaml")
    import re

    assert re.search(words, str(error.value), re.DOTALL), str(error.value)


def test_a_cohort_with_a_broken_section_from_the_command_line(
    recipe: Path, cohort: Path, few: AnnData, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    line = ["run", str(recipe), "--sections", str(cohort / "*"), "--out", str(tmp_path / "out")]
    assert main(line) == 1
    told = capsys.readouterr()
    assert "1 of 3 sections failed" in told.err
    assert "b  " in told.err
    assert "notes.txt" in told.out
    overview = pd.read_csv(tmp_path / "out" / "sections.csv").set_index("folder")
    assert overview["state"].to_dict() == {"a": "done", "b": "failed", "c": "done"}
    assert overview.loc["a", "cells"] == few.n_obs

    # The same bytes as by hand.
    back = anndata.read_h5ad(tmp_path / "out" / "a" / "cells.h5ad")
    stplm.embed(few, clusters=0)
    from stplm.tasks.classifier import Classifier

    stplm.predict(few, Classifier.load(tmp_path / "nest_classifier"), shares="section")
    assert back.obs[keys.CLASS].astype(str).tolist() == few.obs[keys.CLASS].astype(str).tolist()
    assert np.asarray(back.obsm[keys.PROBA]).tobytes() == few.obsm[keys.PROBA].tobytes()

    # Once more: nothing is done again but what failed.
    before = (tmp_path / "out" / "a" / "cells.h5ad").stat().st_mtime_ns
    shutil.copy(cohort / "a.h5ad", cohort / "b.h5ad")
    assert main(line) == 0
    assert "1 done, 2 done before, 0 failed" in capsys.readouterr().out
    assert (tmp_path / "out" / "a" / "cells.h5ad").stat().st_mtime_ns == before


def test_a_run_that_was_killed_goes_on_where_it_stopped(
    recipe: Path, cohort: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (cohort / "b.h5ad").unlink()
    line = ["run", str(recipe), "--sections", str(cohort / "*.h5ad"), "--out", str(tmp_path / "out")]
    export = stplm.export

    def killed(section: object, path: Path, **how: object) -> object:
        if "c" in Path(path).parent.name.split(".")[1:2]:
            raise KeyboardInterrupt
        return export(section, path, **how)

    monkeypatch.setattr(stplm, "export", killed)
    assert main(line) == 130
    assert (tmp_path / "out" / "a" / batch.MARKER).is_file()
    assert not (tmp_path / "out" / "c").exists()
    assert [name for name in os.listdir(tmp_path / "out") if name.startswith(".")] == []
    monkeypatch.setattr(stplm, "export", export)
    assert main(line) == 0
    assert "1 done, 1 done before" in capsys.readouterr().out


def test_profiles_are_looked_for_in_each_section(cohort: Path, tmp_path: Path) -> None:
    (tmp_path / "r.yaml").write_text("classify: {profiles: breast, per_class: 8}\nexports: [explorer]\nreport: false\n")
    line = ["run", str(tmp_path / "r.yaml"), "--sections", str(cohort / "a.h5ad")]
    assert main(line) == 0
    assert (tmp_path / "r_results" / "a" / "cell_groups.csv").is_file()


@pytest.mark.parametrize("from_profiles", [False, True])
def test_workers_write_the_same_and_what_they_did_is_not_done_again(
    recipe: Path,
    cohort: Path,
    client: Client,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    from_profiles: bool,
) -> None:
    """Workers of a scheduler that runs, or one that is started for it."""
    workers = ["--scheduler", str(client.scheduler.address)] if from_profiles else ["--workers", "1"]
    if from_profiles:
        recipe.write_text("classify: {profiles: breast, per_class: 8}\nexports: [h5ad, explorer]\nreport: false\n")
    line = ["run", str(recipe), "--sections", str(cohort / "*.h5ad"), "--out"]
    assert main([*line, str(tmp_path / "here")]) == 1
    with dask.config.set({"distributed.worker.multiprocessing-method": "spawn"}):  # as everywhere but in our tests
        assert main([*line, str(tmp_path / "there"), *workers]) == 1
    told = capsys.readouterr()
    assert told.out.count("2 done, 0 done before, 1 failed.") == 2
    assert told.err.count("1 of 3 sections failed") == 2
    for name in ("a", "c"):
        here, there = (anndata.read_h5ad(tmp_path / by / name / "cells.h5ad") for by in ("here", "there"))
        assert here.obs.equals(there.obs)
        assert here.obsm[keys.PROBA].tobytes() == there.obsm[keys.PROBA].tobytes()
    overviews = [pd.read_csv(tmp_path / by / "sections.csv").drop(columns="seconds") for by in ("here", "there")]
    assert overviews[0].equals(overviews[1])
    assert main([*line, str(tmp_path / "there")]) == 1
    assert "0 done, 2 done before, 1 failed." in capsys.readouterr().out


def test_no_sections_are_told(recipe: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["run", str(recipe)]) == 1
    assert "--sections" in capsys.readouterr().err
    assert main(["run", str(recipe), "--sections", str(tmp_path / "nothing*")]) == 1
