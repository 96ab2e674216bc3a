"""Recipes: what they say is what happens; what they misspell is told."""

from __future__ import annotations

from pathlib import Path

import pytest

from stplm.tasks.recipes import RecipeError, expand, read_pretrain_recipe
from stplm.tasks.training import training_defaults

WHOLE = """
sections: [one/*.h5ad, two.zarr]
out: models/mine
preset: rank
size: small
architecture: {layers: 2}
seed: 7
training:
  steps: 50
  learning_rate: 1e-3
checkpoint: {every_steps: 10}
validation: {blocks: 200}
tensorboard: curves
"""


def _write(tmp_path: Path, text: str) -> Path:
    path = tmp_path / "recipe.yaml"
    path.write_text(text)
    return path


def test_a_whole_recipe(tmp_path: Path) -> None:
    recipe = read_pretrain_recipe(_write(tmp_path, WHOLE))
    assert recipe.sections == (tmp_path / "one/*.h5ad", tmp_path / "two.zarr")
    assert recipe.out == tmp_path / "models/mine"
    # What it leaves out is the preset's own figure.
    assert recipe.training == training_defaults("rank", steps=50, learning_rate=1e-3, seed=7)
    assert recipe.architecture == {"layers": 2}
    assert recipe.checkpoint.every_steps == 10
    assert recipe.validation is not None
    assert recipe.validation.blocks == 200.0


@pytest.mark.parametrize(
    ("change", "told"),
    [
        (("learning_rate: 1e-3", "learning_rat: 1e-3"), ("line 10", "'learning_rat' in training", "'learning_rate'")),
        (("steps: 50", "steps: many"), ("line 9", "training.steps", "whole number", "'many'")),
        (("steps: 50", "steps: 0"), ("line 9", "steps must be 1 or more")),
        (("preset: rank", "preset: sentence"), ("line 4", "'tissue' or 'rank' or 'hybrid'")),
        (("out: models/mine", ""), ("'out' is missing", "a path")),
        (("seed: 7", "preset: rank"), ("line 7", "twice")),
        (("validation: {blocks: 200}", "validation: {every: 5}"), ("line 12", "either sections or blocks")),
        (("training:\n  steps: 50\n  learning_rate: 1e-3", "training: fast"), ("line 8", "training must be a table")),
        (("sections: [one/*.h5ad, two.zarr]", "sections: [one"), ("not YAML",)),
    ],
)
def test_mistakes_are_told_with_their_line(tmp_path: Path, change: tuple[str, str], told: tuple[str, ...]) -> None:
    with pytest.raises(RecipeError) as error:
        read_pretrain_recipe(_write(tmp_path, WHOLE.replace(*change)))
    assert all(text in str(error.value) for text in told), str(error.value)


def test_wildcards(tmp_path: Path) -> None:
    for name in ("b.h5ad", "a.h5ad", "c [1].zarr"):
        (tmp_path / name).touch()
    found = expand((tmp_path / "*.h5ad", tmp_path / "a.h5ad", tmp_path / "c [1].zarr"))
    assert [path.name for path in found] == ["a.h5ad", "b.h5ad", "c [1].zarr"]
    with pytest.raises(RecipeError, match="No file"):
        expand((tmp_path / "*.loom",))
