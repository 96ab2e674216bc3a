"""Sections on disk: the same cells as in memory, mapped and not loaded, made again only when they changed."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from anndata import AnnData
from quick_training import QUICK, SMALL

import stplm
from stplm.errors import SectionError
from stplm.tasks.cells import prepare_cells
from stplm.tasks.corpus import Blocks, HeldOut, store_section


@pytest.fixture
def section(table: AnnData, tmp_path: Path) -> Path:
    path = tmp_path / "section.h5ad"
    table.write_h5ad(path)
    return path


def test_stored_cells_are_the_cells(table: AnnData, section: Path, tmp_path: Path) -> None:
    stored = store_section(section, tmp_path / "cache", SMALL)
    genes = sorted(stored.genes)
    kept, cells = stored.cells(genes), prepare_cells(table, genes, SMALL)
    assert len(kept) == stored.n_cells == len(cells)
    assert np.array_equal(kept.rows, cells.rows)
    for which in (slice(100, 300), slice(0, 50, 7), slice(900, 5000), np.array([5, 3, 3, 1000]), np.array([], int)):
        assert np.array_equal(kept.dense(which), cells.dense(which))
    for name in ("xy", "neighbours", "weights", "distances"):
        assert np.array_equal(getattr(kept, name), getattr(cells, name))


def test_arrays_are_mapped_and_small(section: Path, tmp_path: Path) -> None:
    cells = store_section(section, tmp_path / "cache", SMALL).cells(
        sorted(store_section(section, tmp_path, SMALL).genes)
    )
    arrays = [cells.counts.indptr, cells.counts.indices, cells.counts.data, cells.xy, cells.neighbours, cells.weights]
    assert all(isinstance(a, np.memmap) for a in arrays)
    assert cells.counts.data.dtype == np.uint8 or cells.counts.data.max() > 255
    assert cells.counts.indices.dtype == np.uint16
    assert isinstance(cells.scratch("own", (10, 4)), np.memmap)


def test_a_section_is_converted_once_and_again_when_it_changed(
    table: AnnData, section: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = store_section(section, tmp_path / "cache", SMALL)
    with monkeypatch.context() as patch:
        patch.setattr("stplm.io.read.read_section", lambda *_, **__: pytest.fail("it was read again"))
        assert store_section(section, tmp_path / "cache", SMALL).checksum == first.checksum
    table[:500].copy().write_h5ad(section)
    assert store_section(section, tmp_path / "cache", SMALL).n_cells == 500
    with pytest.raises(SectionError, match="no section"):
        store_section(tmp_path / "none.h5ad", tmp_path / "cache", SMALL)


def test_held_out_blocks_are_far_from_what_is_learnt(section: Path, tmp_path: Path) -> None:
    blocks = Blocks(size=100.0, buffer=30.0, share=0.2)
    learnt, held = (
        store_section(section, tmp_path / "cache", SMALL, blocks=blocks, held_out=held) for held in (False, True)
    )
    genes = sorted(learnt.genes)
    a, b = learnt.cells(genes).xy, held.cells(genes).xy
    assert 0.1 < len(b) / 1135 < 0.3
    assert np.sqrt(((a[:, None] - b[None]) ** 2).sum(2)).min() > 30


def test_from_disk_and_from_memory_give_the_same_model(table: AnnData, section: Path, tmp_path: Path) -> None:
    paths = stplm.pretrain([section], QUICK, architecture=SMALL, cache=tmp_path / "cache")
    tables = stplm.pretrain([table], QUICK, architecture=SMALL)
    assert paths.fingerprint() == tables.fingerprint()


def test_held_out_cells_are_scored(section: Path, tmp_path: Path) -> None:
    pytest.importorskip("tensorboard")
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    model = stplm.pretrain(
        [section],
        QUICK,
        architecture=SMALL,
        held_out=HeldOut(blocks=Blocks(size=100.0, buffer=20.0, share=0.2), every=3, batches=2),
        curves=tmp_path / "curves",
    )
    events = EventAccumulator(str(tmp_path / "curves")).Reload()
    assert [point.step for point in events.Scalars("validation/loss")] == [3, 6]
    assert {"learning_rate", "validation/own", "validation/tissue"} <= set(events.Tags()["scalars"])
    assert model.provenance["held_out"]["loss"] == pytest.approx(events.Scalars("validation/loss")[-1].value, abs=1e-3)
    # Scoring draws nothing from the training's random numbers.
    alone = stplm.pretrain(
        [section], QUICK, architecture=SMALL, held_out=HeldOut(blocks=Blocks(100.0, 20.0, 0.2), every=100)
    )
    assert alone.fingerprint() == model.fingerprint()
