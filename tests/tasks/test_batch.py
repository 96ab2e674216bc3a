"""One classifier on many sections: outputs, resume, failures, and class shares of the section at hand."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import anndata
import numpy as np
import pandas as pd
import pytest
from anndata import AnnData

import stplm
from stplm import keys
from stplm.errors import Cancelled, ModelError
from stplm.tasks.batch import apply_to_section, apply_to_sections
from stplm.tasks.classifier import Classifier
from stplm.tasks.finetune import finetune
from stplm.tasks.finetune_config import FinetuneConfig
from stplm.tasks.section_runs import SectionRun, sections_in


@pytest.fixture
def halves(table: AnnData, tmp_path: Path) -> list[Path]:
    """The left and the right half of the demo section, as files."""
    x, paths = table.obsm[keys.SPATIAL][:, 0], []
    for name, side in (("left", x < np.median(x)), ("right", x >= np.median(x))):
        paths.append(tmp_path / f"{name}.h5ad")
        table[side].copy().write_h5ad(paths[-1])
    return paths


def test_every_section_gets_a_folder_and_a_broken_one_costs_only_itself(
    classifier: Classifier, halves: list[Path], tmp_path: Path
) -> None:
    left, right = halves
    broken = tmp_path / "broken.h5ad"
    broken.write_bytes(left.read_bytes()[:2000])
    told, at = list[tuple[int, str]](), list[tuple[int, int]]()
    runs = apply_to_sections(
        [left, broken, right],
        tmp_path / "out",
        classifier,
        exports=("h5ad", "explorer"),
        on_change=lambda i, run: told.append((i, run.state)),
        progress=lambda *p: at.append(p),
    )
    assert [r.state for r in runs] == ["done", "failed", "done"]
    assert told == [(0, "running"), (0, "done"), (1, "running"), (1, "failed"), (2, "running"), (2, "done")]
    assert at[-1] == (300, 300)
    assert [d for d, _ in at] == sorted(d for d, _ in at)
    assert runs[1].error is not None
    assert "broken.h5ad" in str(runs[1].error)
    assert not (tmp_path / "out" / "broken").exists()
    folder = tmp_path / "out" / "left"
    assert sorted(p.name for p in folder.iterdir()) == ["cell_groups.csv", "cells.h5ad", "done.json", "summary.html"]
    back = anndata.read_h5ad(folder / "cells.h5ad")
    assert runs[0].cells == back.n_obs == sum(runs[0].classes.values()) + runs[0].unassigned
    assert runs[0].classes == back.obs[keys.CLASS].value_counts(sort=False).to_dict()
    assert 0 < runs[0].unknown < 0.5
    marker = json.loads((folder / "done.json").read_text())
    assert marker["about"]["shares"] == "section"
    assert SectionRun.from_json(marker["result"]) == runs[0]


def test_what_is_done_is_not_done_again_unless_something_differs(
    classifier: Classifier, seeds: pd.Series, embedded: AnnData, halves: list[Path], tmp_path: Path
) -> None:
    out = tmp_path / "out"

    def states(head: Any = classifier, paths: list[Path] = halves, **more: Any) -> list[str]:
        return [r.state for r in apply_to_sections(paths, out, head, **{"report": False, **more})]

    def stop(done: int, total: int) -> None:
        if done > total / 2:
            raise Cancelled

    with pytest.raises(Cancelled):
        states(progress=stop)
    assert states() == ["skipped", "done"]
    assert states() == ["skipped", "skipped"]
    assert states(resume=False, paths=halves[:1]) == ["done"]
    assert states(shares="fitted") == ["done", "done"]
    assert states(exports=("explorer",), shares="fitted") == ["done", "done"]
    assert not (out / "left" / "cells.h5ad").exists()
    (out / "right" / "cell_groups.csv").unlink()
    assert states(exports=("explorer",), shares="fitted") == ["skipped", "done"]
    other = stplm.fit_classifier(embedded, seeds, seed=1, scheme="hierarchical")
    assert states(other, exports=("explorer",), shares="fitted") == ["done", "done"]
    changed = anndata.read_h5ad(halves[0])[:200].copy()
    changed.write_h5ad(halves[0])
    assert states(other, exports=("explorer",), shares="fitted") == ["done", "skipped"]
    assert len(pd.read_csv(out / "left" / "cell_groups.csv")) == 200


def test_a_folder_of_something_else_is_never_replaced(
    classifier: Classifier, halves: list[Path], tmp_path: Path
) -> None:
    (tmp_path / "out" / "left").mkdir(parents=True)
    (tmp_path / "out" / "left" / "thesis.txt").write_text("years")
    [run] = apply_to_sections(halves[:1], tmp_path / "out", classifier, report=False)
    assert run.state == "failed"
    assert "something else" in str(run.error)
    assert (tmp_path / "out" / "left" / "thesis.txt").read_text() == "years"


def test_a_fine_tuned_model_and_a_saved_classifier_are_taken_from_their_folders(
    classifier: Classifier, table: AnnData, seeds: pd.Series, halves: list[Path], tmp_path: Path
) -> None:
    config = FinetuneConfig(epochs=1, holdout="none", method="head", neighbours=False)
    folder = finetune("default", table, seeds, config).save(tmp_path / "tuned")
    run = apply_to_section(halves[0], tmp_path / "a", folder, report=False)
    back = anndata.read_h5ad(tmp_path / "a" / "cells.h5ad")
    assert run.unknown is None
    assert back.uns[keys.UNS][keys.UNS_PREDICTION]["finetuned"]
    assert keys.X_STPLM not in back.obsm
    saved = classifier.save(tmp_path / "head")
    assert apply_to_section(halves[0], tmp_path / "b", saved, report=False).state == "done"
    assert apply_to_section(halves[0], tmp_path / "b", classifier, report=False).state == "skipped"


def test_vectors_of_another_model_are_refused_before_any_work(
    classifier: Classifier, halves: list[Path], tmp_path: Path
) -> None:
    with pytest.raises(ModelError, match="another model"):
        apply_to_sections(halves, tmp_path / "out", classifier, model="rank-breast")
    with pytest.raises(ModelError, match="adapting"):
        apply_to_sections(halves, tmp_path / "out", classifier, embedding={"adapt": True})
    with pytest.raises(ModelError, match="not learned any classes"):
        apply_to_sections(halves, tmp_path / "out", "default")
    assert not (tmp_path / "out").exists()


def test_folders_are_named_after_sections_and_never_shared(tmp_path: Path) -> None:
    paths = [tmp_path / p for p in ("a/outs", "b/outs", "x/s 1.h5ad", "y/s 1.h5ad", "cohort.zarr")]
    names = [run.folder.name for run in sections_in(paths, tmp_path)]
    assert names[:3] == ["a", "b", "s_1"]
    assert names[3].startswith("s_1-")
    assert names[4] == "cohort"
    assert names[3] == sections_in(paths[2:4], tmp_path)[1].folder.name


@pytest.mark.parametrize("tuned", [False, True])
def test_a_section_where_a_class_is_rare_is_not_called_by_the_shares_of_the_first(
    tuned: bool, embedded: AnnData, seeds: pd.Series
) -> None:
    """The demo section is about half tumour; another is made of it in which hardly a cell is."""
    first = stplm.predict(embedded.copy(), stplm.fit_classifier(embedded, seeds))
    sure = first.obs[keys.CLASS].notna() & (first.obs[keys.CONFIDENCE] > 0.9)
    tumour = np.flatnonzero(sure & (first.obs[keys.CLASS] == "Tumour"))
    others = np.flatnonzero(first.obs[keys.CLASS].notna() & (first.obs[keys.CLASS] != "Tumour"))
    second = embedded[np.sort(np.concatenate([tumour[:5], others]))].copy()
    head: Any = stplm.fit_classifier(embedded, seeds)
    if tuned:
        head = finetune("default", embedded, seeds, FinetuneConfig(epochs=1, method="head", neighbours=False))

    def share(shares: Any) -> tuple[float, float]:
        found = stplm.predict(second.copy(), head, shares=shares)
        about = found.uns[keys.UNS][keys.UNS_PREDICTION]
        believed = dict(zip(about["classes"], about["class_shares"], strict=True))
        return believed["Tumour"], float((found.obs[keys.CLASS] == "Tumour").mean())

    (fitted, called_fitted), (here, called_here) = share("fitted"), share("section")
    assert fitted > 0.3
    assert here < 0.15
    assert called_here <= called_fitted
