"""Model folders: what was saved is what is loaded; what is damaged is refused by name."""

from __future__ import annotations

import json
import shutil
import stat
from pathlib import Path

import pytest
import torch

import stplm
from stplm.errors import ModelError
from stplm.models import FORMAT, Model, list_models, load_model
from stplm.nn.tissue import TissueConfig, TissueEncoder

GENES = [f"ENSG{i:011d}" for i in range(12)]
SMALL = TissueConfig(hidden=16, own_dim=8, own_blocks=1, tissue_dim=4, tissue_hidden=8, tissue_blocks=1, heads=2)


@pytest.fixture
def model() -> Model:
    torch.manual_seed(0)
    return Model(TissueEncoder(GENES, SMALL).eval(), "mine", {"data": ["a section"], "limits": "For tests."})


@pytest.fixture
def saved(model: Model, tmp_path: Path) -> Path:
    return model.save(tmp_path / "mine")


def test_a_model_comes_back_as_it_was(model: Model, saved: Path) -> None:
    loaded = load_model(saved)
    assert loaded.encoder.genes == GENES
    assert loaded.encoder.config == SMALL
    assert (loaded.name, loaded.preset, loaded.dim) == ("mine", "tissue", 12)
    state = loaded.encoder.state_dict()
    assert all(torch.equal(tensor, state[name]) for name, tensor in model.encoder.state_dict().items())
    assert loaded.provenance["data"] == ["a section"]
    assert not loaded.encoder.training


def test_saving_does_not_change_who_it_is(tmp_path: Path) -> None:
    torch.manual_seed(1)
    model = Model(TissueEncoder(GENES, SMALL), "mine")
    before = model.fingerprint()
    loaded = load_model(model.save(tmp_path / "mine"))
    assert before == model.fingerprint() == model.checksum == loaded.checksum == loaded.fingerprint()
    with torch.no_grad():
        loaded.encoder.input_bias += 1e-3
    assert loaded.fingerprint() != before


def test_genes_added_are_saved_too(model: Model, tmp_path: Path) -> None:
    model.encoder.add_genes(["ENSG99999999999"])
    loaded = load_model(model.save(tmp_path / "more"))
    assert loaded.encoder.genes[-1] == "ENSG99999999999"
    assert loaded.fingerprint() == model.fingerprint()


def test_a_loaded_model_is_taken_as_it_is(model: Model) -> None:
    assert load_model(model) is model


def test_the_card_says_what_it_is(saved: Path, model: Model) -> None:
    card = (saved / "README.md").read_text(encoding="utf-8")
    for text in ("mine", "12 numbers per cell, 12 genes", "a section", "For tests.", model.checksum):
        assert text in card


def test_others_may_read_it(saved: Path) -> None:
    modes = {stat.S_IMODE(path.stat().st_mode) for path in saved.iterdir()}
    assert len(modes) == 1


def test_an_earlier_model_is_not_overwritten_unasked(model: Model, saved: Path) -> None:
    with torch.no_grad():
        model.encoder.input_bias += 1
    with pytest.raises(ModelError, match="already"):
        model.save(saved)
    assert load_model(saved).fingerprint() != model.fingerprint()
    model.save(saved, overwrite=True)
    assert load_model(saved).fingerprint() == model.fingerprint()


def test_bundled_models() -> None:
    listed = list_models()
    assert listed[0].name == "tissue-breast"
    assert listed[0].description
    default = stplm.load_model("default")
    assert default.name == "tissue-breast"
    assert default.checksum == stplm.load_model("tissue-breast").checksum == stplm.load_model(listed[0].path).checksum
    assert (default.dim, len(default.encoder.genes)) == (96, 313)
    for key in ("description", "data", "limits"):
        assert default.provenance[key]


def test_a_name_that_is_no_model() -> None:
    with pytest.raises(ModelError, match=r"(?s)no model 'liver'.*default, tissue-breast"):
        load_model("liver")


@pytest.mark.parametrize("name", ["config.json", "model.safetensors", "vocabulary.json", "provenance.json"])
def test_a_missing_file_is_named(saved: Path, name: str) -> None:
    (saved / name).unlink()
    with pytest.raises(ModelError, match=f"without {name}"):
        load_model(saved)


@pytest.mark.parametrize("name", ["config.json", "vocabulary.json", "provenance.json"])
@pytest.mark.parametrize("content", ["", "{", "[]", "{}", "null", "\xff\xfe"])
def test_unreadable_text_is_refused(saved: Path, name: str, content: str) -> None:
    (saved / name).write_bytes(content.encode("latin-1"))
    with pytest.raises(ModelError, match="cannot be read"):
        load_model(saved)


def test_truncated_weights(saved: Path) -> None:
    weights = saved / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[: weights.stat().st_size // 2])
    with pytest.raises(ModelError, match="do not match their checksum"):
        load_model(saved)


def test_one_altered_byte(saved: Path) -> None:
    weights = saved / "model.safetensors"
    content = bytearray(weights.read_bytes())
    content[-1] ^= 1
    weights.write_bytes(content)
    with pytest.raises(ModelError, match="do not match their checksum"):
        load_model(saved)


def _edit(path: Path, **changes: object) -> None:
    path.write_text(json.dumps({**json.loads(path.read_text()), **changes}))


def test_a_format_of_the_future(saved: Path) -> None:
    (saved / "config.json").write_text(json.dumps({"format": FORMAT + 1, "preset": "tissue"}))
    with pytest.raises(ModelError, match=r"(?s)does not know.*Update"):
        load_model(saved)


def test_an_unknown_preset(saved: Path) -> None:
    _edit(saved / "config.json", preset="oracle")
    with pytest.raises(ModelError, match="oracle"):
        load_model(saved)


@pytest.mark.parametrize("change", [{"hidden": 32}, {"heads": 3}, {"hidden": "wide"}, {"colour": "red"}])
def test_sizes_that_do_not_fit_the_weights(saved: Path, change: dict[str, object]) -> None:
    config = json.loads((saved / "config.json").read_text())
    _edit(saved / "config.json", model={**config["model"], **change})
    with pytest.raises(ModelError, match="do not fit"):
        load_model(saved)


def test_a_vocabulary_that_does_not_fit_the_weights(saved: Path) -> None:
    _edit(saved / "vocabulary.json", genes=GENES[:-1])
    with pytest.raises(ModelError, match="do not fit"):
        load_model(saved)


def test_weights_of_another_model_are_refused(saved: Path) -> None:
    bundled = list_models()[0].path
    shutil.copy(bundled / "model.safetensors", saved / "model.safetensors")
    with pytest.raises(ModelError, match="checksum"):
        load_model(saved)
