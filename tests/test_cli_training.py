"""``stplm pretrain``: from a recipe, taken up again, and in two processes."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

import stplm
from stplm import cli, cli_training, keys

RECIPE = """
sections: [section.h5ad]
out: {out}
preset: rank
name: mine
architecture: {{layers: 1, hidden: 16, heads: 2, feed_forward: 16}}
training: {{steps: 4, patch: 40, patches: 2}}
device: cpu
"""


@pytest.fixture
def folder(tmp_path: Path, demo_path: Path) -> Path:
    """A folder with 300 cells as section.h5ad."""
    table = stplm.cell_table(stplm.read_section(demo_path, images=False, labels=False))
    table[:300].copy().write_h5ad(tmp_path / "section.h5ad")
    return tmp_path


def _recipe(folder: Path, out: str, more: str = "") -> str:
    path = folder / f"{out}.yaml"
    path.write_text(RECIPE.format(out=out) + more)
    return str(path)


def test_a_recipe_makes_a_model_and_leaves_nothing_else(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    pytest.importorskip("tensorboard")
    more = "validation: {blocks: 100, buffer: 10, share: 0.2, every: 2}\ntensorboard: curves\n"
    assert cli.main(["pretrain", _recipe(folder, "model", more)]) == 0
    model = stplm.load_model(folder / "model")
    assert (model.name, model.preset) == ("mine", "rank")
    assert model.provenance["data"] == ["section.h5ad"]
    assert 0 <= model.provenance["held_out"]["masked_gene_accuracy"] <= 1
    left = {path.name for path in folder.iterdir()}
    assert left == {"section.h5ad", "model", "model.yaml", "curves"}
    assert cli.main(["pretrain", _recipe(folder, "model")]) == 1
    assert "exists already" in capsys.readouterr().err
    table = stplm.read_section(folder / "section.h5ad")
    assert np.isfinite(stplm.embed(table, model, clusters=0).obsm[keys.X_STPLM]).all()


def test_a_stopped_run_goes_on(
    folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    recipe = _recipe(folder, "model", "checkpoint: {every_steps: 1}\n")

    def stop(unit: str) -> object:
        def progress(done: int, total: int) -> None:
            if done == 2:
                raise KeyboardInterrupt

        return progress

    with monkeypatch.context() as patch:
        patch.setattr(cli_training, "progress_bar", stop)
        assert cli.main(["pretrain", recipe]) == 130
    assert cli.main(["pretrain", recipe]) == 1
    assert "--resume" in capsys.readouterr().err
    assert cli.main(["pretrain", recipe, "--resume"]) == 0
    assert cli.main(["pretrain", _recipe(folder, "whole")]) == 0
    resumed, whole = (stplm.load_model(folder / name) for name in ("model", "whole"))
    assert resumed.checksum == whole.checksum


def test_what_does_not_go_together(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    section = str(folder / "section.h5ad")
    assert cli.main(["pretrain", section]) == 1
    assert "--out" in capsys.readouterr().err
    assert cli.main(["pretrain", _recipe(folder, "model"), "--steps", "5"]) == 1
    assert "recipe says everything" in capsys.readouterr().err
    assert cli.main(["pretrain", section, "--out", str(folder / "m"), "--preset", "hybrid"]) == 1
    assert "built on a rank model" in capsys.readouterr().err
    assert not (folder / "m").exists()


def test_two_processes_train_one_model(folder: Path) -> None:
    """Under ``accelerate launch``, the recipe as it is; the losses are those of one process."""
    pytest.importorskip("accelerate")
    # accelerate's own --cpu starts several processes by MPI only; so started, they find no GPU and take the CPU.
    launch = [sys.executable, "-m", "accelerate.commands.launch", "--multi_gpu", "--num_processes", "2"]
    program = ["--main_process_port", "0", "-m", "stplm.cli", "pretrain", _recipe(folder, "two")]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    done = subprocess.run([*launch, *program], capture_output=True, text=True, env=environment, cwd=folder)
    assert done.returncode == 0, done.stderr[-3000:]
    assert done.stdout.count("Wrote") == 1
    two = stplm.load_model(folder / "two")
    assert two.provenance["processes"] == 2
    assert all(torch.isfinite(p).all() for p in two.encoder.parameters())
    assert cli.main(["pretrain", _recipe(folder, "one")]) == 0
    one = stplm.load_model(folder / "one")
    assert two.provenance["final_loss"] == pytest.approx(one.provenance["final_loss"], rel=1e-3)
