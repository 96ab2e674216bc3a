"""The engine's variants against a direct, slow implementation of the same definitions, one row per variant."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from anndata import AnnData

import stplm
from benchmarks.reference.perturbation import screen
from stplm.models import build_encoder
from stplm.nn.encoder import Encoder
from stplm.tasks.cells import Cells, prepare_cells
from stplm.tasks.perturb_edits import Edits, edits_of
from stplm.tasks.perturb_measures import shift_of
from stplm.tasks.perturb_sets import GeneSets
from stplm.tasks.perturb_vectors import CountVariants, variant_encoder

SMALL: dict[str, Any] = {"layers": 2, "hidden": 16, "heads": 2, "feed_forward": 24}


def _encoder(preset: str, cells: list[str], **config: Any) -> Encoder:
    torch.manual_seed(3)
    encoder = build_encoder(preset, cells, {**SMALL, **config}).eval()
    with torch.no_grad():
        encoder.gene_median.uniform_(0.5, 3.0)
        for name in ("gene_embedding", "bin_embedding", "special_embedding"):
            getattr(encoder, name).normal_()
        for weights in encoder.body.encoder.parameters():
            # So that tokens heed each other.
            weights.mul_(15 if weights.ndim == 2 else 1)
    return encoder


def _shifts(
    encoder: Encoder, cells: Cells, counts: np.ndarray, sets: GeneSets, mode: str, measure: str = "cell"
) -> tuple[Edits, np.ndarray, np.ndarray]:
    variants = variant_encoder(encoder, cells.rows, mode, cells.counts, measure=measure)
    edits = edits_of(counts, sets, variants.rule)
    base = variants.base(counts)
    vectors, shifts = np.empty((len(edits), base.shape[1]), dtype=np.float32), np.empty(len(edits))
    for which, own, shift in variants.parts(counts, edits):
        vectors[which] = own
        shifts[which] = shift_of(base[edits.cells[which]], own) if shift is None else shift
    return edits, vectors, shifts


@pytest.fixture
def genes(few: AnnData) -> list[str]:
    return list(few.var["ensembl_id"])


@pytest.mark.parametrize("mode", ["delete", "overexpress", "inhibit", "activate"])
@pytest.mark.parametrize(
    ("measure", "config"),
    [
        ("cell", {}),
        ("genes", {}),
        ("cls", {"pool": "cls"}),
        ("genes", {"cls": False, "eos": True}),
        ("genes", {"max_length": 24}),
    ],
)
def test_token_edits_follow_the_definitions(
    few: AnnData, genes: list[str], mode: str, measure: str, config: dict[str, Any]
) -> None:
    encoder = _encoder("rank", genes, **config)
    cells = prepare_cells(few, encoder.genes, encoder.config)
    counts = cells.dense(np.arange(4))
    columns = list(range(0, 313, 4)) if mode == "overexpress" else list(range(313))
    sets = GeneSets.of({str(c): [c] for c in columns})
    edits, vectors, shifts = _shifts(encoder, cells, counts, sets, mode, measure)
    expected = screen(encoder, counts, cells.rows, mode=mode, genes=columns, measure=measure, library=False)
    assert [(e.cell, e.gene) for e in expected] == [
        (c, columns[s]) for c, s in zip(edits.cells.tolist(), edits.sets.tolist(), strict=True)
    ]
    np.testing.assert_allclose(vectors, [e.vector for e in expected], atol=2e-5)
    np.testing.assert_allclose(shifts, [e.shift for e in expected], atol=1e-5)
    assert shifts.max() > 1e-4


def test_deletions_of_a_bag_are_those_of_edited_counts(few: AnnData) -> None:
    encoder = stplm.load_model().encoder
    cells = prepare_cells(few, encoder.genes, encoder.config)
    counts = cells.dense(np.arange(6))
    sets = GeneSets.of({str(c): [c] for c in range(313)})
    edits, vectors, shifts = _shifts(encoder, cells, counts, sets, "delete")
    expected = screen(encoder, counts, cells.rows, library=False)
    assert [(e.cell, e.gene) for e in expected] == list(zip(edits.cells.tolist(), edits.sets.tolist(), strict=True))
    np.testing.assert_allclose(vectors, [e.vector for e in expected], atol=1e-5)
    np.testing.assert_allclose(shifts, [e.shift for e in expected], atol=1e-6)


@pytest.mark.parametrize("mode", ["delete", "overexpress", "inhibit", "activate"])
def test_groups_of_a_bag_are_those_of_edited_counts(few: AnnData, mode: str) -> None:
    encoder = stplm.load_model().encoder
    cells = prepare_cells(few, encoder.genes, encoder.config)
    counts = cells.dense(np.arange(30))
    sets = GeneSets.of({"a": [5, 6, 7, 110], "b": [111, 40], "c": [200]})
    edits, vectors, _ = _shifts(encoder, cells, counts, sets, mode)
    plain = CountVariants(encoder, cells.rows, variant_encoder(encoder, cells.rows, mode, cells.counts).rule)
    for which, own, _ in plain.parts(counts, edits):
        np.testing.assert_allclose(vectors[which], own, atol=1e-5)


def test_a_group_of_tokens_is_deleted_at_once_and_raised_in_order(few: AnnData, genes: list[str]) -> None:
    encoder = _encoder("hybrid", genes, own_dim=16)
    cells = prepare_cells(few, encoder.genes, encoder.config)
    counts = cells.dense(np.arange(5))
    first = np.argsort(-counts[0], kind="stable")[:3]
    sets = GeneSets.of({"group": first.tolist()})
    edits, vectors, _ = _shifts(encoder, cells, counts, sets, "delete")
    without = counts.copy()
    without[:, first] = 0
    expected = variant_encoder(encoder, cells.rows, "delete", cells.counts).base(without[edits.cells])
    np.testing.assert_allclose(vectors, expected, atol=1e-5)
    raised = variant_encoder(encoder, cells.rows, "overexpress", cells.counts)
    raised_edits = edits_of(counts, sets, raised.rule)
    order, _ = raised._edited(raised.sentences(counts), counts, raised_edits)  # type: ignore[attr-defined]
    assert all(set(row[:3]) == set(first) for row in order)


def test_nothing_edited_is_no_shift_at_all(few: AnnData, genes: list[str]) -> None:
    for encoder in (stplm.load_model().encoder, _encoder("rank", genes)):
        cells = prepare_cells(few, encoder.genes, encoder.config)
        counts = cells.dense(np.arange(20))
        variants = variant_encoder(encoder, cells.rows, "delete", cells.counts)
        base = variants.base(counts)
        for which, own, _ in variants.parts(counts, Edits.none(20)):
            assert shift_of(base[which], own).max() < 1e-6
