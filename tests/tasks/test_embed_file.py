"""A section embedded on the disk gets the vectors that it gets in memory, and can be cut off at any time."""

from __future__ import annotations

import tracemalloc
from pathlib import Path

import anndata as ad
import numpy as np
import pytest
import torch
from anndata import AnnData

import stplm
from stplm import keys
from stplm.errors import Cancelled, GeneError
from stplm.io.export import write_h5ad
from stplm.io.table_builder import built_table
from stplm.io.table_file import FileCounts
from stplm.models import Model, build_encoder
from stplm.tasks import embed_file as module
from stplm.tasks import encode
from stplm.tasks.embed_file import embed_file


@pytest.fixture
def small_pieces(monkeypatch: pytest.MonkeyPatch) -> None:
    for target in (encode, module):
        monkeypatch.setattr(target, "BLOCK", 256)
        monkeypatch.setattr(target, "BAND_CELLS", 200)


@pytest.fixture
def stored(table: AnnData, tmp_path: Path) -> Path:
    table.obsm[keys.SPATIAL] = table.obsm[keys.SPATIAL] * [1, 5]  # several rows of tiles
    return write_h5ad(table, tmp_path / "cells.h5ad")


@pytest.fixture(params=["tissue", "rank"])
def model(request: pytest.FixtureRequest) -> Model:
    """The bundled model; a small new one of the preset whose tissue stage changes own vectors."""
    model = stplm.load_model()
    if request.param == "tissue":
        return model
    with torch.random.fork_rng():
        torch.manual_seed(0)
        sizes = {"layers": 1, "hidden": 32, "feed_forward": 32}
        return Model(build_encoder("rank", model.encoder.genes, sizes).eval(), "new", preset="rank")


@pytest.mark.parametrize("neighbours", [True, False])
def test_the_vectors_are_those_of_memory(
    stored: Path, tmp_path: Path, small_pieces: None, model: Model, neighbours: bool
) -> None:
    whole = stplm.embed(ad.read_h5ad(stored), model, neighbours=neighbours)
    out = embed_file(stored, tmp_path / "out", model, neighbours=neighbours)
    found = ad.read_h5ad(out)
    assert out == tmp_path / "out.h5ad"
    assert found.obsm[keys.X_STPLM].tobytes() == whole.obsm[keys.X_STPLM].tobytes()
    assert list(found.obs[keys.CLUSTER]) == list(whole.obs[keys.CLUSTER])
    note, expected = (t.uns[keys.UNS][keys.UNS_EMBEDDING] for t in (found, whole))
    assert {name: note[name] for name in expected if name != "versions"} == {
        name: value for name, value in expected.items() if name != "versions"
    }
    assert sorted(p.name for p in tmp_path.iterdir()) == ["cells.h5ad", "out.h5ad"]


def test_a_run_that_was_cut_off_goes_on(
    stored: Path, tmp_path: Path, small_pieces: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = stplm.embed(ad.read_h5ad(stored), clusters=0).obsm[keys.X_STPLM]
    reads: list[int] = []
    plain = FileCounts.__getitem__
    monkeypatch.setattr(FileCounts, "__getitem__", lambda self, at: reads.append(at.start) or plain(self, at))

    def stop(after: float) -> None:
        def progress(done: int, total: int) -> None:
            if done > after * total:
                raise Cancelled

        with pytest.raises(Cancelled):
            embed_file(stored, tmp_path / "out.h5ad", clusters=0, progress=progress)
        assert not (tmp_path / "out.h5ad").exists()

    stop(0.3)
    assert 1 < len(set(reads)) < 5
    stop(0.7)
    embed_file(stored, tmp_path / "out.h5ad", clusters=0)
    assert sorted(set(reads)) == [0, 256, 512, 768, 1024]
    assert len(reads) <= 6  # at most the block in hand is read again
    assert ad.read_h5ad(tmp_path / "out.h5ad").obsm[keys.X_STPLM].tobytes() == whole.tobytes()


def test_pieces_of_other_work_are_not_used(stored: Path, tmp_path: Path, small_pieces: None) -> None:
    def stop(done: int, total: int) -> None:
        if done > 0.8 * total:
            raise Cancelled

    with pytest.raises(Cancelled):
        embed_file(stored, tmp_path / "out.h5ad", clusters=0, dtype="bfloat16", progress=stop)
    embed_file(stored, tmp_path / "out.h5ad", clusters=0)
    whole = stplm.embed(ad.read_h5ad(stored), clusters=0).obsm[keys.X_STPLM]
    assert ad.read_h5ad(tmp_path / "out.h5ad").obsm[keys.X_STPLM].tobytes() == whole.tobytes()


def test_an_unknown_panel_says_so_and_leaves_nothing(table: AnnData, tmp_path: Path) -> None:
    table.var[keys.ENSEMBL_ID] = [f"ENSG9{i:010d}" for i in range(table.n_vars)]
    write_h5ad(table, tmp_path / "cells.h5ad")
    with pytest.raises(GeneError):
        embed_file(tmp_path / "cells.h5ad", tmp_path / "out.h5ad")
    assert [p.name for p in tmp_path.iterdir()] == ["cells.h5ad"]


def test_memory_does_not_grow_with_the_section(few: AnnData, tmp_path: Path, small_pieces: None) -> None:
    """Sections of 4 and 24 times the same cells, one below the other."""
    xy = few.obsm[keys.SPATIAL]
    names = few.var_names.to_numpy(dtype=str), few.var[keys.ENSEMBL_ID].to_numpy(dtype=str)
    peaks = []
    for copies in (4, 24):
        with built_table(tmp_path / f"{copies}.h5ad", copies * few.n_obs, *names) as builder:
            for i in range(copies):
                ids = np.array([f"{i}-{name}" for name in few.obs_names])
                builder.add(few.X, ids, xy + np.array([0, 400.0 * i]))
            builder.finish({"kind": "test"})
        embed_file(tmp_path / f"{copies}.h5ad", tmp_path / "out.h5ad", clusters=0)  # kernels are compiled
        tracemalloc.start()
        try:
            embed_file(tmp_path / f"{copies}.h5ad", tmp_path / "out.h5ad", clusters=0)
            peaks.append(tracemalloc.get_traced_memory()[1])
        finally:
            tracemalloc.stop()
    counts_and_vectors = 20 * (few.X.data.nbytes + few.X.indices.nbytes + few.n_obs * 96 * 4)
    # Positions and row numbers are held, some numbers a cell.
    assert peaks[1] - peaks[0] < 0.1 * counts_and_vectors
