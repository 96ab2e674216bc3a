"""A saved classifier is the same classifier; a damaged one is refused."""

from __future__ import annotations

import json
from pathlib import Path

import pandas as pd
import pytest
from anndata import AnnData

import stplm
from stplm import keys
from stplm.errors import ExportError, ModelError
from stplm.tasks.classifier import Classifier


@pytest.fixture
def classifier(embedded: AnnData, seeds: pd.Series) -> Classifier:
    return stplm.fit_classifier(embedded, seeds, tumour_classes=["Tumour"], seeded=True, seed=4)


@pytest.fixture
def saved(classifier: Classifier, tmp_path: Path) -> Path:
    return classifier.save(tmp_path / "mine")


def test_it_predicts_the_same_after_saving(classifier: Classifier, saved: Path, embedded: AnnData) -> None:
    loaded = Classifier.load(saved)
    assert loaded.to_dict() == classifier.to_dict()
    tables = [stplm.predict(embedded.copy(), c) for c in (classifier, loaded)]
    assert tables[0].obsm[keys.PROBA].tobytes() == tables[1].obsm[keys.PROBA].tobytes()
    pd.testing.assert_frame_equal(tables[0].obs, tables[1].obs)


def test_the_same_classifier_is_the_same_files(classifier: Classifier, saved: Path, tmp_path: Path) -> None:
    again = Classifier.load(saved).save(tmp_path / "again")
    for name in ("classifier.json", "classifier.safetensors"):
        assert (saved / name).read_bytes() == (again / name).read_bytes()


def test_an_earlier_one_is_not_overwritten_unasked(classifier: Classifier, saved: Path) -> None:
    before = (saved / "classifier.json").read_bytes()
    with pytest.raises(ExportError):
        classifier.save(saved)
    assert (saved / "classifier.json").read_bytes() == before
    assert classifier.save(saved, overwrite=True) == saved


def _edit(path: Path, **changes: object) -> None:
    content = json.loads(path.read_text())
    path.write_text(json.dumps({**content, **changes}))


@pytest.mark.parametrize(
    "damage", ["gone", "no weights", "truncated", "not json", "list", "format", "extra", "classes"]
)
def test_a_damaged_folder_is_refused(saved: Path, damage: str) -> None:
    text, weights = saved / "classifier.json", saved / "classifier.safetensors"
    match damage:
        case "gone":
            text.unlink()
        case "no weights":
            weights.unlink()
        case "truncated":
            weights.write_bytes(weights.read_bytes()[:-100])
        case "not json":
            text.write_text("{")
        case "list":
            text.write_text("[]")
        case "format":
            _edit(text, format=99)
        case "extra":
            _edit(text, colour="red")
        case "classes":
            _edit(text, classes=["Tumour", "Stromal"])
    with pytest.raises(ModelError, match="not a classifier"):
        Classifier.load(saved)
