"""Rows of embedding: the references are what they say, at tiny sizes."""

from __future__ import annotations

import copy

import numpy as np
import pytest
import torch

import stplm
from benchmarks.reference.two_bert import SHARE, TwoBert
from benchmarks.sections import Sections
from benchmarks.speed import embedding, gene_embedding, gpu, streaming
from stplm.models import Model, build_encoder

TINY = {"layers": 1, "hidden": 32, "heads": 2, "feed_forward": 32}


@pytest.fixture(scope="module")
def sections(tmp_path_factory: pytest.TempPathFactory) -> Sections:
    return Sections(tmp_path_factory.mktemp("sections"))


@pytest.fixture(autouse=True)
def _tiny(monkeypatch: pytest.MonkeyPatch) -> None:
    torch.manual_seed(0)
    monkeypatch.setattr(embedding, "SIZES", {"large": TINY})


def test_the_two_bert_forward_mixes_a_cell_with_its_neighbours_encoded_again() -> None:
    encoder = build_encoder("rank", ["a", "b", "c"], TINY).eval()
    counts, rows = np.array([[3, 1, 0], [0, 2, 5], [1, 0, 0]], dtype=np.float32), np.arange(3)
    near = np.array([[1, 2], [0, -1], [-1, -1]])
    with torch.inference_mode():
        own = encoder.encode_own(torch.from_numpy(counts), torch.from_numpy(rows)).numpy()
    found = TwoBert(encoder, encoder)(counts, rows, near, np.arange(3))
    np.testing.assert_allclose(found[0], (1 - SHARE) * own[0] + SHARE * own[1:].mean(0), atol=1e-5)
    np.testing.assert_allclose(found[1], (1 - SHARE) * own[1] + SHARE * own[0], atol=1e-5)
    np.testing.assert_allclose(found[2], own[2], atol=1e-5)


def test_rows_of_the_default_embedding(sections: Sections, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(embedding.environment, "FOLDER", sections.folder / "nothing")
    two, peer = embedding.measure(sections, (300,))
    assert two.ratio == pytest.approx(two.ours / two.reference)
    assert "MFLOP a cell" in two.note
    assert peer.reference is None
    assert "not measured" in peer.note


def test_rows_of_the_gene_token_embedding_agree(sections: Sections, monkeypatch: pytest.MonkeyPatch) -> None:
    genes = stplm.load_model().encoder.genes
    monkeypatch.setattr(
        gene_embedding.stplm,
        "load_model",
        lambda _: Model(build_encoder("rank", genes, TINY).eval(), "t", preset="rank"),
    )
    rows = gene_embedding.measure(sections, (300,))
    assert rows[0].agrees
    assert rows[0].ours > 0
    assert len(rows) == 2


def test_a_command_is_measured_in_a_process_of_its_own(sections: Sections) -> None:
    took, peak = streaming.run_apart(["simulate", str(sections.folder / "x.h5ad"), "--cells", "50", "--table"])
    assert took > 0
    assert 50 < peak < 4000
    with pytest.raises(RuntimeError, match="export"):
        streaming.run_apart(["export", "nothing.h5ad", "--out", "nowhere/x.h5ad"])


def test_rows_of_a_section_on_the_disk(sections: Sections, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[str] = []
    monkeypatch.setattr(streaming, "run_apart", lambda command: seen.append(command[0]) or (10.0, 9000.0))
    rows = streaming.measure(sections, (1000, 10_000_000))
    assert seen == ["simulate", "embed", "classify"] * 2
    assert [(row.bar, row.met) for row in rows] == [("", None)] * 4 + [("< 8 GB resident", False)] * 2


def test_rows_of_a_gpu_say_so_where_there_is_none_and_run_anywhere(sections: Sections) -> None:
    if not torch.cuda.is_available():
        rows = gpu.measure(sections, (1000,))
        assert [(row.ours, row.note) for row in rows] == [(None, gpu.NONE)] * 3
    rows = gpu.measure(sections, (300,), device="cpu", small=True)
    assert all(row.ours > 0 and row.bar for row in rows)
    assert "TFLOP/s" in rows[0].note
    assert rows[2].ratio is not None
    assert "transformers.Trainer" in rows[2].note


def test_steps_of_the_trainer_are_ours_on_padded_sentences() -> None:
    genes = stplm.load_model().encoder.genes
    random = np.random.default_rng(0)
    counts = torch.from_numpy(random.poisson(0.2, (8, len(genes))).astype(np.float32))
    asked = torch.from_numpy(random.random((8, 160)) < 0.15)
    torch.manual_seed(1)
    first = build_encoder("rank", genes, TINY)
    second = copy.deepcopy(first)
    _, ours = gpu.plain_steps(first, counts, asked, steps=2, half=False)
    _, theirs = gpu.trainer_steps(second, counts, asked, steps=1, longest=160, half=False)
    assert len(ours) == len(theirs) == 3
    np.testing.assert_allclose(theirs, ours, rtol=1e-4)
    assert ours[2] < ours[0]
