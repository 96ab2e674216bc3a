"""``stplm finetune``: a recipe or the command line, and a tuned model at work in ``stplm classify``."""

from __future__ import annotations

from pathlib import Path

import anndata as ad
import numpy as np
import pandas as pd
import pytest
from anndata import AnnData

import stplm
from stplm import cli, keys
from stplm.cli_finetune import FinetuneRecipe
from stplm.tasks.finetune_config import FinetuneConfig


@pytest.fixture
def section(few: AnnData, tmp_path: Path) -> Path:
    epcam = np.asarray(few[:, "EPCAM"].X.todense()).ravel()
    few.obs["truth"] = pd.Categorical(np.where(epcam >= 4, "Tumour", "Other"))
    few.write_h5ad(tmp_path / "section.h5ad")
    return tmp_path / "section.h5ad"


def test_a_recipe_makes_a_model_that_classify_takes(
    section: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    recipe = tmp_path / "recipe.yaml"
    recipe.write_text(
        "sections: [sect*.h5ad]\nlabels: truth\nout: tuned\nepochs: 1\nmethod: head\nblock: 60\nbuffer: 5\n"
    )
    assert cli.main(["finetune", str(recipe), "--seed", "3"]) == 0
    said = capsys.readouterr().out
    assert "epoch 1: loss" in said
    assert "macro f1" in said
    model = stplm.load_model(tmp_path / "tuned")
    assert model.provenance["finetune"]["config"]["seed"] == 3
    assert sorted(p.name for p in tmp_path.iterdir()) == ["recipe.yaml", "section.h5ad", "tuned"]
    out = tmp_path / "called.h5ad"
    assert cli.main(["classify", str(section), "--model", str(tmp_path / "tuned"), "--out", str(out)]) == 0
    called = ad.read_h5ad(out)
    assert (called.obs[keys.CLASS].astype(str) == called.obs["truth"].astype(str)).mean() > 0.8


def test_what_is_missing_or_makes_no_sense_is_told(
    section: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert cli.main(["finetune", str(section), "--labels", "truth"]) == 1
    assert "--out" in capsys.readouterr().err
    words = ["finetune", str(section), "--labels", "truth", "--out", str(tmp_path / "m"), "--epochs", "0"]
    assert cli.main(words) == 1
    assert "epochs must be at least 1" in capsys.readouterr().err


def test_a_recipe_holds_every_setting() -> None:
    config = FinetuneConfig(method="lora", seed=4)
    assert FinetuneRecipe(**config.to_dict()).settings() == config
    with pytest.raises(ValueError, match="method"):
        FinetuneConfig(method="half")  # type: ignore[arg-type]
