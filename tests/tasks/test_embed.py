"""Embedding: a cell's vector is a function of the tissue and of nothing else."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
import torch
from anndata import AnnData, concat

import stplm
from stplm import keys
from stplm.errors import Cancelled, GeneError, SectionError, StplmError
from stplm.models import PRESETS, Model, build_encoder
from stplm.nn import encoder as encoder_module
from stplm.nn import rank as rank_module
from stplm.tokens.vocabulary import known_ensembl_ids


def _vectors(table: AnnData, **options: object) -> np.ndarray:
    return stplm.embed(table, clusters=0, **options).obsm[keys.X_STPLM]


def _assert_same(a: np.ndarray, b: np.ndarray) -> None:
    cosine = (a * b).sum(1) / (np.linalg.norm(a, axis=1) * np.linalg.norm(b, axis=1))
    assert cosine.min() >= 0.9999
    np.testing.assert_allclose(a, b, atol=2e-4)


def test_what_is_written(few: AnnData) -> None:
    table = stplm.embed(few, clusters=5)
    assert table is few
    vectors, note = table.obsm[keys.X_STPLM], table.uns[keys.UNS][keys.UNS_EMBEDDING]
    assert vectors.shape == (300, 96)
    assert vectors.dtype == np.float32
    assert np.isfinite(vectors).all()
    assert note["model"] == "tissue-breast"
    assert note["sha256"] == stplm.load_model().checksum
    assert (note["genes_known"], note["genes_total"], note["dim"], note["tissue"]) == (313, 313, 96, True)
    sizes = table.obs[keys.CLUSTER].value_counts(sort=False)
    assert list(sizes.index) == ["1", "2", "3", "4", "5"]
    assert list(sizes) == sorted(sizes, reverse=True)


def test_two_runs_give_the_same_bytes(few: AnnData) -> None:
    again = few.copy()
    stplm.embed(few)
    stplm.embed(again)
    assert few.obsm[keys.X_STPLM].tobytes() == again.obsm[keys.X_STPLM].tobytes()
    assert list(few.obs[keys.CLUSTER]) == list(again.obs[keys.CLUSTER])


def test_the_order_of_cells_means_nothing(embedded: AnnData, table: AnnData) -> None:
    order = np.random.default_rng(0).permutation(table.n_obs)
    _assert_same(_vectors(table[order].copy()), embedded.obsm[keys.X_STPLM][order])


def test_the_order_of_genes_means_nothing(embedded: AnnData, table: AnnData) -> None:
    order = np.random.default_rng(0).permutation(table.n_vars)
    _assert_same(_vectors(table[:, order].copy()), embedded.obsm[keys.X_STPLM])


def test_cells_far_away_mean_nothing(embedded: AnnData, table: AnnData) -> None:
    far = table[:400].copy()
    # Up and to the right: the grid of tiles starts at the lowest corner, which stays.
    far.obsm[keys.SPATIAL] = far.obsm[keys.SPATIAL] + [3000, 2000]
    far.obs_names = [f"far-{name}" for name in far.obs_names]
    both = concat([far, table], merge="same")
    _assert_same(_vectors(both)[400:], embedded.obsm[keys.X_STPLM])


@pytest.mark.parametrize("chunk", [1, 97])
def test_the_chunk_means_nothing(
    embedded: AnnData, table: AnnData, chunk: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(encoder_module, "_CHUNK", chunk)
    _assert_same(_vectors(table), embedded.obsm[keys.X_STPLM])


SMALL = {
    "tissue": {"hidden": 32, "own_dim": 16, "tissue_dim": 8, "tissue_hidden": 16, "own_blocks": 1},
    "rank": {"layers": 2, "hidden": 32, "feed_forward": 32},
    "hybrid": {"layers": 2, "hidden": 32, "feed_forward": 32, "own_dim": 32, "tissue_dim": 8, "tissue_hidden": 16},
}


@pytest.fixture(params=PRESETS)
def untrained(request: pytest.FixtureRequest) -> Model:
    """A small new model of each preset; genes far apart, so that cells are, and neighbours that matter."""
    torch.manual_seed(0)
    encoder = build_encoder(request.param, stplm.load_model().encoder.genes, SMALL[request.param])
    with torch.no_grad():
        for name, parameter in encoder.named_parameters():
            if name in ("gene_embedding", "bin_embedding", "gate.query.weight", "gate.change.weight"):
                parameter.normal_()
    return Model(encoder.eval(), "new", preset=request.param)


def test_of_every_preset_order_and_batch_mean_nothing(
    few: AnnData, untrained: Model, monkeypatch: pytest.MonkeyPatch
) -> None:
    vectors = _vectors(few.copy(), model=untrained)
    order = np.random.default_rng(0).permutation(few.n_obs)
    monkeypatch.setattr(encoder_module, "_CHUNK", 37)
    monkeypatch.setattr(rank_module, "_BUDGET", {"cpu": 500})
    _assert_same(_vectors(few[order].copy(), model=untrained), vectors[order])


def test_of_every_preset_half_precision_is_nearly_the_same(few: AnnData, untrained: Model) -> None:
    vectors = _vectors(few.copy(), model=untrained)
    half = _vectors(few, model=untrained, dtype="bfloat16")
    assert half.dtype == np.float32
    assert not np.array_equal(half, vectors)
    cosine = (half * vectors).sum(1) / (np.linalg.norm(half, axis=1) * np.linalg.norm(vectors, axis=1))
    assert cosine.min() >= 0.999


def test_of_every_preset_neighbours_can_be_left_out(few: AnnData, untrained: Model) -> None:
    whole, width = _vectors(few.copy(), model=untrained), untrained.encoder.config.own_width
    alone = _vectors(few, model=untrained, neighbours=False)
    assert few.uns[keys.UNS][keys.UNS_EMBEDDING]["tissue"] is False
    assert np.abs(alone - whole).mean() > 0.01
    assert (alone[:, width:] == 0).all()
    few.obsm[keys.SPATIAL] = few.obsm[keys.SPATIAL][::-1] * 3
    np.testing.assert_array_equal(_vectors(few.copy(), model=untrained, neighbours=False), alone)
    del few.obsm[keys.SPATIAL]
    np.testing.assert_array_equal(_vectors(few, model=untrained), alone)


def test_of_every_preset_progress_comes_often_and_ends(
    few: AnnData, untrained: Model, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(encoder_module, "_CHUNK", 20)
    monkeypatch.setattr(rank_module, "_BUDGET", {"cpu": 1000})
    seen: list[int] = []
    stplm.embed(few, untrained, clusters=0, progress=lambda done, total: seen.append(done))
    assert seen == sorted(seen)
    assert seen[-1] == few.n_obs
    assert len(set(seen)) > 10


def test_the_gene_token_encoder_pads_by_less_than_a_tenth(table: AnnData) -> None:
    model = Model(build_encoder("rank", stplm.load_model().encoder.genes, SMALL["rank"]), "new", preset="rank")
    run: list[int] = []
    body = model.encoder.get_submodule("body.encoder")
    body.register_forward_pre_hook(lambda _, inputs: run.append(inputs[0].shape[0] * inputs[0].shape[1]))
    stplm.embed(table, model, clusters=0)
    tokens = table.X.nnz + table.n_obs
    assert tokens <= sum(run) <= 1.1 * tokens


def test_the_surroundings_do_mean_something(embedded: AnnData, table: AnnData) -> None:
    """Cells moved to other places keep their own part and change in the tissue part."""
    table.obsm[keys.SPATIAL] = table.obsm[keys.SPATIAL][np.random.default_rng(0).permutation(table.n_obs)]
    moved, before = _vectors(table), embedded.obsm[keys.X_STPLM]
    np.testing.assert_allclose(moved[:, :64], before[:, :64], atol=2e-4)
    assert np.abs(moved[:, 64:] - before[:, 64:]).mean() > 0.05


def test_without_positions_the_own_part_is_the_same(embedded: AnnData, table: AnnData) -> None:
    del table.obsm[keys.SPATIAL]
    vectors = _vectors(table)
    np.testing.assert_allclose(vectors[:, :64], embedded.obsm[keys.X_STPLM][:, :64], atol=2e-4)
    assert (vectors[:, 64:] == 0).all()
    assert table.uns[keys.UNS][keys.UNS_EMBEDDING]["tissue"] is False


def test_cells_without_counts_and_without_neighbours(few: AnnData) -> None:
    counts = few.X.tolil()
    counts[[3, 7]] = 0
    few.X = counts.tocsr()
    few.obsm[keys.SPATIAL][3] += 5000
    vectors = _vectors(few)
    assert np.isfinite(vectors).all()
    assert np.array_equal(vectors[3, :64], vectors[7, :64])


def test_fewer_cells_than_clusters(table: AnnData) -> None:
    few = stplm.embed(table[:3].copy())
    assert few.obs[keys.CLUSTER].notna().all()


def test_counts_stored_as_floats_give_the_same(embedded: AnnData, table: AnnData) -> None:
    table.X = table.X.astype(np.float32).toarray()
    _assert_same(_vectors(table), embedded.obsm[keys.X_STPLM])


def test_an_unknown_panel_says_so(few: AnnData) -> None:
    model = stplm.load_model()
    others = sorted(known_ensembl_ids() - set(model.encoder.genes))[: few.n_vars]
    few.var[keys.ENSEMBL_ID] = others
    with pytest.raises(GeneError, match=r"(?s)knows none.*[Aa]dapt"):
        stplm.embed(few, model)
    assert keys.X_STPLM not in few.obsm


def test_another_species_says_so(few: AnnData) -> None:
    few.var_names = [f"Gm{i}" for i in range(few.n_vars)]
    few.var[keys.ENSEMBL_ID] = [f"ENSMUSG{i:011d}" for i in range(few.n_vars)]
    with pytest.raises(GeneError, match="human"):
        stplm.embed(few)


def test_counts_that_are_no_counts_say_so(few: AnnData) -> None:
    few.X = few.X.astype(np.float32) * 0.7
    with pytest.raises(SectionError):
        stplm.embed(few)


def test_no_cell_at_all_says_so(table: AnnData) -> None:
    with pytest.raises(SectionError, match="no cell"):
        stplm.embed(table[:0].copy())


def test_a_device_that_is_not_there_says_so(few: AnnData) -> None:
    with pytest.raises(StplmError, match="Choose auto"):
        stplm.embed(few, device="cuda:97")
    with pytest.raises(StplmError, match="Choose auto"):
        stplm.embed(few, device="abacus")
    assert keys.X_STPLM not in few.obsm


@pytest.mark.parametrize("after", [0.0, 0.6, 1.0])
def test_cancelling_leaves_the_table_as_it_was(few: AnnData, after: float) -> None:
    few.obs["mine"] = np.arange(few.n_obs)
    few.obsm[keys.X_STPLM] = np.ones((few.n_obs, 4), dtype=np.float32)
    obs, uns = few.obs.copy(), str(few.uns)

    def stop(done: int, total: int) -> None:
        if done >= after * total:
            raise Cancelled

    with pytest.raises(Cancelled):
        stplm.embed(few, progress=stop)
    pd.testing.assert_frame_equal(few.obs, obs)
    assert str(few.uns) == uns
    assert (few.obsm[keys.X_STPLM] == 1).all()


def test_a_model_still_works_after_a_cancelled_job(few: AnnData) -> None:
    model = stplm.load_model()

    def stop(done: int, total: int) -> None:
        raise Cancelled

    with pytest.raises(Cancelled):
        stplm.embed(few.copy(), model, progress=stop)
    assert np.isfinite(_vectors(few, model=model)).all()


def test_progress_rises_to_the_end(table: AnnData) -> None:
    seen: list[tuple[int, int]] = []
    stplm.embed(table, clusters=0, progress=lambda done, total: seen.append((done, total)))
    done = [d for d, _ in seen]
    assert done == sorted(done)
    assert {total for _, total in seen} == {table.n_obs}
    assert done[-1] == table.n_obs
