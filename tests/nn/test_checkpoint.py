"""Checkpoints in the formats of Geneformer and STPLM: what transformers writes is what we compute, and back."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import BertConfig, BertForMaskedLM

from stplm.errors import ModelError
from stplm.models import Model, load_model
from stplm.nn.checkpoint import LAYOUTS, save_checkpoint
from stplm.nn.rank import RankConfig, RankEncoder
from stplm.nn.ranking import CLS, EOS, FIRST_GENE, MASK, Tokens
from stplm.tokens.vocabulary import load_vocabulary

GENES = sorted(load_vocabulary("reference").ids)[:30]
SPECIAL = {
    "geneformer-v1": {"<pad>": 0, "<mask>": 1},
    "stplm": {"<pad>": 0, "<mask>": 1},
    "geneformer-v2": {"<pad>": 0, "<mask>": 1, "<cls>": 2, "<eos>": 3},
}


def _theirs(folder: Path, layout: str) -> BertForMaskedLM:
    """A random checkpoint as transformers writes it, with a dictionary of 30 genes."""
    special = SPECIAL[layout]
    tokens = special | {gene: len(special) + i for i, gene in enumerate(GENES)}
    config = BertConfig(
        vocab_size=len(tokens) + (layout == "stplm"),
        hidden_size=32,
        num_hidden_layers=2,
        num_attention_heads=4,
        intermediate_size=64,
        hidden_act="relu",
        max_position_embeddings=64,
        initializer_range=0.5,
    )
    torch.manual_seed(0)
    model = BertForMaskedLM(config).eval()
    torch.nn.init.normal_(model.cls.predictions.bias)
    model.save_pretrained(folder)
    (folder / "token_dictionary.json").write_text(json.dumps(tokens))
    return model


def _sentences(layout: str) -> tuple[torch.Tensor, Tokens]:
    """The same three sentences in the checkpoint's ids and in ours, one of them padded."""
    cls, eos = LAYOUTS[layout]
    first = len(SPECIAL[layout])
    theirs_of = {CLS: 32 if layout == "stplm" else 2, EOS: 3, MASK: 1, 0: 0}
    ours = torch.full((3, 12), 0)
    for row, length in enumerate((12, 12, 7)):
        genes = FIRST_GENE + torch.randperm(30, generator=torch.Generator().manual_seed(row))[: length - cls - eos]
        genes[1] = MASK
        ours[row, :length] = torch.tensor([CLS] * cls + genes.tolist() + [EOS] * eos)
    theirs = ours - FIRST_GENE + first
    for mine, their in theirs_of.items():
        theirs[ours == mine] = their
    return theirs, Tokens(ours, torch.zeros_like(ours), ours > 0)


@pytest.fixture(params=LAYOUTS)
def layout(request: pytest.FixtureRequest) -> str:
    return request.param


def _encoder(model: Model) -> RankEncoder:
    assert isinstance(model.encoder, RankEncoder)
    return model.encoder


@torch.no_grad()
def test_what_transformers_computes(layout: str, tmp_path: Path) -> None:
    theirs = _theirs(tmp_path / "checkpoint", layout)
    model = load_model(tmp_path / "checkpoint")
    encoder = _encoder(model)
    assert (model.preset, model.name, encoder.genes) == ("rank", "checkpoint", GENES)
    assert (encoder.config.cls, encoder.config.eos) == LAYOUTS[layout]
    ids, tokens = _sentences(layout)
    expected = theirs(ids, attention_mask=(ids > 0).long(), output_hidden_states=True)
    hidden = encoder.encode_tokens(tokens)
    torch.testing.assert_close(hidden[tokens.mask], expected.hidden_states[-1][tokens.mask], atol=1e-5, rtol=1e-5)
    first = len(SPECIAL[layout])
    logits = encoder.gene_logits(hidden[:, 2], torch.tensor([5, 3]))
    torch.testing.assert_close(logits, expected.logits[:, 2, [first + 5, first + 3]], atol=1e-4, rtol=1e-4)
    own = encoder.pool(hidden, tokens)
    genes = tokens.genes[2]
    torch.testing.assert_close(own[2], hidden[2, 0] if encoder.config.cls else hidden[2, genes].mean(0))


@torch.no_grad()
def test_and_back(layout: str, tmp_path: Path) -> None:
    before = _theirs(tmp_path / "theirs", layout)
    model = load_model(tmp_path / "theirs")
    encoder = _encoder(model)
    encoder.gene_median.copy_(torch.arange(1, 31) / 7)
    save_checkpoint(model, tmp_path / "ours", layout=layout)
    after, report = BertForMaskedLM.from_pretrained(tmp_path / "ours", output_loading_info=True)
    assert not report["missing_keys"]
    assert not report["unexpected_keys"]
    ids, _ = _sentences(layout)
    mask = (ids > 0).long()
    torch.testing.assert_close(after.eval()(ids, attention_mask=mask).logits, before(ids, attention_mask=mask).logits)
    again = _encoder(load_model(tmp_path / "ours"))
    assert again.config == encoder.config
    state = again.state_dict()
    assert all(torch.equal(value, state[name]) for name, value in encoder.state_dict().items())


def test_a_csv_of_ids_and_weights_without_a_head(tmp_path: Path) -> None:
    _theirs(tmp_path, "stplm")
    dictionary = tmp_path / "token_dictionary.json"
    tokens = json.loads(dictionary.read_text())
    dictionary.unlink()
    with (tmp_path / "ids.csv").open("w", newline="") as file:
        csv.writer(file).writerows([("ensembl_id", "token"), *tokens.items()])
    weights = load_file(tmp_path / "model.safetensors")
    body = {name.removeprefix("bert."): w for name, w in weights.items() if name.startswith("bert.")}
    save_file(body, tmp_path / "model.safetensors", {"format": "pt"})
    model = load_model(tmp_path, vocabulary=tmp_path / "ids.csv", medians="flat")
    assert model.encoder.genes == GENES
    assert model.provenance["masked_gene_head"] is False
    assert load_model(tmp_path, vocabulary=tmp_path / "ids.csv", medians="flat").fingerprint() == model.fingerprint()
    with pytest.raises(ModelError, match=r"(?s)no token dictionary.*33 tokens.*25442.*token_dictionary\.pkl"):
        load_model(tmp_path)


def test_the_shipped_dictionary_where_its_size_fits(tmp_path: Path) -> None:
    config = BertConfig(
        vocab_size=25442, hidden_size=8, num_hidden_layers=1, num_attention_heads=2, intermediate_size=8
    )
    BertForMaskedLM(config).save_pretrained(tmp_path)
    model = load_model(tmp_path)
    encoder, words = _encoder(model), load_vocabulary("reference")
    weights = load_file(tmp_path / "model.safetensors")["bert.embeddings.word_embeddings.weight"]
    row = encoder.genes.index("ENSG00000119888")
    assert torch.equal(encoder.gene_embedding[row], weights[words.ids["ENSG00000119888"]])
    assert torch.equal(encoder.special_embedding[CLS], weights[25441])
    assert (encoder.config.pool, encoder.config.cls, encoder.config.eos) == ("cls", True, False)
    assert encoder.gene_median.unique().numel() > 10


def test_pickles_are_not_opened(tmp_path: Path) -> None:
    _theirs(tmp_path, "geneformer-v1")
    (tmp_path / "model.safetensors").rename(tmp_path / "pytorch_model.bin")
    with pytest.raises(ModelError, match=r"(?s)no model\.safetensors.*a pickle.*save_file"):
        load_model(tmp_path)


@pytest.mark.parametrize(
    ("name", "content", "told"),
    [
        ("token_dictionary.json", "{", "dictionary cannot be read"),
        ("token_dictionary.json", '{"<pad>": 0, "<mask>": 1, "ENSG00000119888": 90}', "does not fit"),
        ("token_dictionary.json", '{"<pad>": 0, "<mask>": 1, "ENSG00000119888": 1}', "one id to several"),
        ("gene_median_dictionary.json", '{"ENSG00000119888": 0}', "medians cannot be used"),
        ("gene_median_dictionary.json", "[]", "medians cannot be read"),
        ("config.json", '{"model_type": "bert", "hidden_size": 48}', "cannot be read as a BERT encoder"),
        ("model.safetensors", "weights", "cannot be read as a BERT encoder"),
    ],
)
def test_damage_is_told(tmp_path: Path, name: str, content: str, told: str) -> None:
    _theirs(tmp_path, "geneformer-v1")
    (tmp_path / name).write_text(content)
    with pytest.raises(ModelError, match=told):
        load_model(tmp_path)


def test_what_the_formats_cannot_hold_is_refused(tmp_path: Path) -> None:
    sizes = {"layers": 1, "hidden": 8, "heads": 2, "feed_forward": 8}
    bins = Model(RankEncoder(GENES, RankConfig(**sizes)), "bins", preset="rank")
    with pytest.raises(ModelError, match="count bins"):
        save_checkpoint(bins, tmp_path / "a", layout="stplm")
    plain = Model(RankEncoder(GENES, RankConfig(**sizes, count_bins=0)), "plain", preset="rank")
    with pytest.raises(ModelError, match=r"(?s)special tokens.*cls=True, eos=False.*cls=False"):
        save_checkpoint(plain, tmp_path / "a", layout="geneformer-v1")
    with pytest.raises(ModelError, match="no layout"):
        save_checkpoint(plain, tmp_path / "a", layout="geneformer")
    with pytest.raises(ModelError, match=r"(?s)preset 'rank'.*tissue"):
        save_checkpoint(load_model(), tmp_path / "a", layout="stplm")
    assert not (tmp_path / "a").exists()
