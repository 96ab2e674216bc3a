"""Training in two processes: the losses, and where it can go on, are those of one."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from anndata import AnnData
from quick_training import QUICK, SMALL
from two_processes import pretrained, train_in_two, tuned

import stplm
from stplm.errors import ModelError
from stplm.tasks.cells import prepare_cells, table_genes
from stplm.tasks.objectives import Share
from stplm.tasks.objectives_tissue import TissueObjective


def losses(folder: Path) -> list[float]:
    """Of the latest steps before a checkpoint."""
    found: list[float] = json.loads((folder / "trainer.json").read_text())["losses"]
    return found


@pytest.fixture(scope="module")
def launched(_demo: AnnData, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder in which two processes have trained."""
    pytest.importorskip("accelerate")
    here = tmp_path_factory.mktemp("two")
    few = _demo[np.sort(_demo.obsm["spatial"][:, 0].argsort(kind="stable")[:300])].copy()
    few.obs["truth"] = np.where(np.asarray(few[:, "EPCAM"].X.todense()).ravel() >= 4, "Tumour", "Other")
    few.write_h5ad(here / "few.h5ad")
    train_in_two(here)
    return here


def test_pretraining_has_the_losses_of_one_process(launched: Path) -> None:
    one = pretrained(launched, "one")
    assert "processes" not in one.provenance
    assert losses(launched / "two") == pytest.approx(losses(launched / "one"), rel=1e-4)
    assert len(losses(launched / "one")) == 6


def test_fine_tuning_has_the_losses_of_one_process(launched: Path) -> None:
    tuned(launched, "one-tuned")
    one, two = (_history(launched / f"{name}-tuned.jsonl") for name in ("one", "two"))
    # Steps that follow at once are not all written.
    shared = set(one) & set(two)
    assert {("epoch", 0), ("epoch", 1), ("epoch", 2), ("step", 1)} <= shared
    for at in shared:
        assert two[at] == pytest.approx(one[at], rel=1e-3), at


def _history(path: Path) -> dict[tuple[str, int], dict[str, float]]:
    """What was written of each step and after each epoch."""
    lines = [json.loads(line) for line in path.read_text().splitlines()]
    of_steps = {("step", line["step"]): {"loss": line["loss"]} for line in lines if "step" in line}
    return {**of_steps, **{("epoch", line["epoch"]): line["scores"] for line in lines if "scores" in line}}


def test_what_two_processes_began_one_can_end(launched: Path) -> None:
    seen: list[int] = []
    pretrained(launched, "half", resume=True, progress=lambda done, _: seen.append(done))
    assert seen == [5, 6]
    assert losses(launched / "half") == pytest.approx(losses(launched / "two"), rel=1e-4)


def test_more_processes_than_patches_are_another_run(few: AnnData, tmp_path: Path) -> None:
    few.write_h5ad(tmp_path / "few.h5ad")
    pretrained(tmp_path, "run")
    about = tmp_path / "run" / "trainer.json"
    about.write_text(about.read_text().replace('"patches a step": 3', '"patches a step": 4'))
    with pytest.raises(ModelError, match="patches a step"):
        pretrained(tmp_path, "run", resume=True)


@pytest.mark.parametrize(("patches", "count"), [(1, 1), (3, 2), (2, 2), (1, 2)])
def test_the_shares_of_a_step_add_up(few: AnnData, patches: int, count: int) -> None:
    """Of the tissue preset: the mean of the processes' losses is the loss of one that has the same pieces."""
    genes = sorted(gene for gene in table_genes(few) if gene)
    torch.manual_seed(0)
    encoder = stplm.models.build_encoder("tissue", genes, SMALL.to_dict())
    cells = prepare_cells(few, genes, encoder.config)

    def loss(patches: int, share: Share) -> tuple[float, int]:
        objective = TissueObjective(encoder, replace(QUICK, patches=patches))
        batch = objective.draw(cells, 4, np.random.default_rng(9), share)
        return float(objective(batch)[0].detach()), batch.cells

    whole, cells_of_whole = loss(max(patches, count), Share())
    parts = [loss(patches, Share(i, count)) for i in range(count)]
    assert sum(value for value, _ in parts) / count == pytest.approx(whole, rel=1e-5)
    assert sum(n for _, n in parts) == cells_of_whole
