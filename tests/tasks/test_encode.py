"""Vectors in pieces: however a section is cut into blocks and bands, whoever does them, they are the same."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pytest
import torch
from anndata import AnnData

import stplm
from stplm import keys
from stplm.models import Model, build_encoder
from stplm.tasks import encode as encoding
from stplm.tasks.encode import bands, encode_band, encode_own, on_device, own_room, place_in_tissue
from stplm.tasks.sources import Source


@pytest.fixture
def model() -> Model:
    return stplm.load_model()


@pytest.fixture
def tall(table: AnnData) -> AnnData:
    """The demo section's cells drawn apart to several rows of tiles."""
    table.obsm[keys.SPATIAL] = table.obsm[keys.SPATIAL] * [1, 5]
    return table


@pytest.fixture
def threads() -> Iterator[None]:
    before = torch.get_num_threads()
    yield
    torch.set_num_threads(before)


def test_bands_do_not_change_a_vector(tall: AnnData, model: Model) -> None:
    source = Source.of_table(tall, model.encoder.genes)
    whole = encoding.encode(model.encoder, source)
    assert source.xy is not None
    parts = list(bands(source.xy, model.encoder.config, cells=300))
    assert len(parts) > 1
    assert sorted(np.concatenate([band.cells for band in parts])) == list(range(len(source)))
    own, found = whole[:, :64], np.zeros_like(whole)
    with on_device(model.encoder, "cpu") as team:
        for band in reversed(parts):
            for cells, vectors in encode_band(model.encoder, source.xy, band, own[band.around], team):
                found[cells] = vectors
    assert found.tobytes() == whole.tobytes()


@pytest.mark.parametrize("preset", ["tissue", "rank"])
def test_the_way_of_a_gpu_gives_the_same_vectors(
    tall: AnnData, threads: None, monkeypatch: pytest.MonkeyPatch, preset: str
) -> None:
    """Two threads that feed, pieces of a GPU's size; a CPU in its place. Several blocks and bands."""
    torch.set_num_threads(1)
    encoder = stplm.load_model().encoder
    if preset == "rank":
        torch.manual_seed(0)
        encoder = build_encoder("rank", encoder.genes, {"layers": 1, "hidden": 32, "feed_forward": 32}).eval()
    source = Source.of_table(tall, encoder.genes)
    whole = encoding.encode(encoder, source)
    monkeypatch.setattr(encoding, "BLOCK", 300)
    monkeypatch.setattr(encoding, "BAND_CELLS", 300)
    monkeypatch.setattr("stplm.nn.rank._BUDGET", {})
    monkeypatch.setattr("stplm.nn.team.feeds", lambda device: True)
    found = encoding.encode(encoder, source)
    np.testing.assert_allclose(found, whole, atol=2e-5)
    assert torch.get_num_threads() == 1


def test_the_number_of_threads_does_not_change_a_byte(table: AnnData, threads: None) -> None:
    vectors = []
    for n in (1, 2, 3):
        torch.set_num_threads(n)
        stplm.embed(table, clusters=0)
        assert torch.get_num_threads() == n
        vectors.append(table.obsm[keys.X_STPLM].tobytes())
    assert vectors[0] == vectors[1] == vectors[2]


@pytest.mark.parametrize("name", ["tissue-breast", "rank-breast"])
def test_what_is_done_already_is_not_done_again(tall: AnnData, name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    model, table = stplm.load_model(name), tall[np.arange(200) * 4].copy()
    monkeypatch.setattr(encoding, "BLOCK", 50)
    monkeypatch.setattr(encoding, "BAND_CELLS", 1)
    source = Source.of_table(table, model.encoder.genes)
    vectors = np.zeros((len(source), model.dim), dtype=np.float32)
    own = own_room(model.encoder, vectors)
    blocks: list[int] = []
    placed: list[int] = []
    with on_device(model.encoder, "cpu") as team:
        assert list(encode_own(model.encoder, source, own, team, skip=(1, 2), finished=blocks.append))[-1] == 200
        assert blocks == [0, 3]
        assert not own[50:150].any()
        list(encode_own(model.encoder, source, own, team, skip=(0, 3), finished=blocks.append))
        for skip in ((0,), (1, 2, 3, 4, 5)):
            done = list(place_in_tissue(model.encoder, source, own, vectors, team, skip=skip, finished=placed.append))
            assert done == sorted(done)
            assert done[-1] == 200
    assert sorted(placed) == list(range(len(placed)))
    assert len(placed) > 1
    np.testing.assert_array_equal(vectors, encoding.encode(model.encoder, source))


def test_counts_of_genes_that_the_model_lacks_are_left_out(few: AnnData, model: Model) -> None:
    known = few[:, 20:80].copy()
    few.var.loc[~few.var_names.isin(known.var_names), keys.ENSEMBL_ID] = "ENSG99999999999"
    source = Source.of_table(few, model.encoder.genes)
    block, cells = source.read(10, 60), np.array([3, 1, 40])
    np.testing.assert_array_equal(block.dense(cells), known.X[10 + cells].toarray())
    np.testing.assert_array_equal(block.lengths(), np.diff(known.X[10:60].indptr))
