"""Embed every cell of a section: each cell encoded once, neighbourhoods from the cached vectors, tile by tile."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from stplm import keys
from stplm.models import DEFAULT, Model, load_model, versions
from stplm.progress import Progress, no_progress

if TYPE_CHECKING:
    from pathlib import Path

    from anndata import AnnData
    from spatialdata import SpatialData
    from torch import Tensor

    from stplm.nn.encoder import Encoder
    from stplm.tasks.cells import Cells

_CHUNK = 65_536


def embed(
    table: AnnData | SpatialData,
    model: str | Path | Model = DEFAULT,
    *,
    adapt: bool = False,
    neighbours: bool = True,
    device: str = "auto",
    dtype: str = "float32",
    seed: int = 0,
    clusters: int = 12,
    progress: Progress = no_progress,
) -> AnnData:
    """Write the cell embedding, and clusters of it, into ``table``.

    Parameters
    ----------
    table
        A section or its cell table (:func:`stplm.cell_table`), or any AnnData with integer counts; positions in µm in
        ``obsm["spatial"]`` (without them the tissue part of the vectors is zero).
    model
        A bundled model's name, a model folder, or a loaded model.
    adapt
        First continue self-supervised training on this section (:func:`stplm.adapt`); for a new panel or tissue.
    neighbours
        False leaves what surrounds a cell out of its vector: the ablation.
    device
        "auto" (a CUDA GPU, else the CPU), "cpu", "cuda", ...
    dtype
        "float32", or "bfloat16" for matrix products in half precision (about the same vectors, quicker on a GPU).
    seed
        Of adaptation and clustering; embedding itself draws nothing at random.
    clusters
        Number of clusters to colour the tissue by before anything is labelled; 0 for none.

    Returns
    -------
    The cell table, with ``obsm["X_stplm"]`` (n_cells, dim) float32 (own part first, then tissue part),
    ``obs["stplm_cluster"]`` (categorical) and ``uns["stplm"]["embedding"]``.
    A cell's vector is a function of the tissue, never of a batch. Nothing is written when the job is cancelled.

    Raises
    ------
    GeneError
        When the model knows none of the genes.
    SectionError
        When the counts are not integers.
    Cancelled
        When ``progress`` raises it.
    """
    from stplm.io.groups import as_table
    from stplm.tasks.adapt import STEPS
    from stplm.tasks.adapt import adapt as adapt_model
    from stplm.tasks.cells import prepare_cells
    from stplm.tasks.device import choose_device

    table = as_table(table)
    loaded = load_model(model)
    n_cells, done_before = table.n_obs, 0
    if adapt:
        # In the units of the whole job: a training step sees about a batch and half a patch of cells.
        done_before = STEPS[loaded.preset] * 700
        total = n_cells + done_before
        loaded = adapt_model(
            table,
            loaded,
            seed=seed,
            device=device,
            progress=lambda done, steps: progress(done * done_before // steps, total),
        )
    cells = prepare_cells(table, loaded.encoder.genes, loaded.encoder.config)
    vectors = encode(
        loaded.encoder,
        cells,
        neighbours=neighbours,
        device=choose_device(device),
        dtype=dtype,
        progress=lambda d, n: progress(done_before + d, done_before + n),
    )
    put_vectors(
        table,
        vectors,
        loaded,
        genes_known=len(cells.rows),
        adapted=adapt,
        seed=seed,
        tissue=neighbours and cells.xy is not None,
        dtype=dtype,
        clusters=clusters,
    )
    return table


def put_vectors(
    table: AnnData,
    vectors: NDArray[np.float32],
    model: Model,
    *,
    genes_known: int,
    adapted: bool,
    seed: int,
    tissue: bool,
    dtype: str,
    clusters: int,
) -> None:
    """Write ``vectors`` (n_cells, dim), clusters of them, and how they were made, as :func:`embed` says."""
    labels = cluster(vectors, clusters, seed) if clusters else None
    table.obsm[keys.X_STPLM] = vectors
    if labels is not None:
        table.obs[keys.CLUSTER] = labels
    table.uns.setdefault(keys.UNS, {})[keys.UNS_EMBEDDING] = {
        "model": model.name,
        "sha256": model.fingerprint(),
        "dim": model.dim,
        "own_dim": model.encoder.config.own_width,
        "genes_known": genes_known,
        "genes_total": table.n_vars,
        "adapted": adapted,
        "seed": seed,
        "tissue": tissue,
        "dtype": dtype,
        "versions": versions(),
    }


def encode(
    encoder: Encoder,
    cells: Cells,
    *,
    neighbours: bool = True,
    device: Any = "cpu",
    dtype: str = "float32",
    progress: Progress = no_progress,
) -> NDArray[np.float32]:
    """Vectors (n_cells, dim) float32 of prepared cells. Progress counts cells. Raises ValueError for another dtype."""
    import torch

    if dtype not in ("float32", "bfloat16"):
        raise ValueError(f"dtype must be 'float32' or 'bfloat16', not {dtype!r}")
    n, done, alone = len(cells), 0, cells.xy is None or not neighbours
    own_part = 1.0 if alone else encoder.own_time
    half = torch.autocast(torch.device(device).type, torch.bfloat16, enabled=dtype == "bfloat16")
    try:
        encoder = encoder.to(device).eval()
        with torch.inference_mode(), half:
            own = torch.empty((n, encoder.config.own_width), device=device)
            for batch, vectors_of in own_batches(encoder, cells, device):
                own[torch.as_tensor(batch, device=device)] = vectors_of
                done += len(batch)
                progress(int(own_part * done), n)
            if alone:
                vectors = np.asarray(encoder.alone(own).float().cpu().numpy())
            else:
                vectors = np.zeros((n, encoder.config.dim), dtype=np.float32)
                _encode_tiles(encoder, cells, own, vectors, progress)
    finally:
        encoder.to("cpu")
    progress(n, n)
    return vectors


def own_batches(encoder: Encoder, cells: Cells, device: Any) -> Iterator[tuple[NDArray[np.int64], Tensor]]:
    """The encoder's batches of cells, and their own vectors, float32 (len(batch), own_width) on ``device``."""
    import torch

    rows = torch.as_tensor(cells.rows, device=device)
    for batch in encoder.batches(np.diff(cells.counts.indptr).astype(np.int64)):
        counts = torch.from_numpy(cells.dense(batch)).to(device)
        yield batch, encoder.encode_own(counts, rows).float()


def _encode_tiles(
    encoder: Encoder, cells: Cells, own: Tensor, vectors: NDArray[np.float32], progress: Progress
) -> None:
    from stplm.spatial.tiles import iter_tiles
    from stplm.tasks.cells import surroundings

    assert cells.xy is not None
    config, n, done = encoder.config, len(cells), 0
    before = encoder.own_time * n
    shared = encoder.shared(own)
    for tile in iter_tiles(cells.xy, config.tile_size, config.halo):
        around = surroundings(cells, tile.cells, tile.centre, own.device)
        vectors[tile.cells[: tile.n_own]] = encoder.in_tissue(own, shared, around)[: tile.n_own].float().cpu().numpy()
        done += tile.n_own
        progress(int(before + (1 - encoder.own_time) * done), n)


def cluster(vectors: NDArray[np.float32], clusters: int, seed: int = 0) -> Any:
    """k-means clusters of the vectors' standardised columns, largest first, as a categorical "1", "2", ...

    Centres are found on at most 20,000 cells (drawn with ``seed``).
    """
    import pandas as pd
    from sklearn.cluster import KMeans
    from threadpoolctl import threadpool_limits

    scaled = vectors - vectors.mean(0)
    scaled /= scaled.std(0) + 1e-6
    random = np.random.default_rng(seed)
    sample = scaled if len(scaled) <= 20_000 else scaled[np.sort(random.choice(len(scaled), 20_000, replace=False))]
    clusters = min(clusters, len(sample))
    # One thread adds up in a fixed order: the same bytes on every run.
    with threadpool_limits(1, user_api="openmp"):
        fitted = KMeans(clusters, n_init=2, random_state=seed).fit(sample.astype(np.float64))
        parts = (scaled[start : start + _CHUNK].astype(np.float64) for start in range(0, len(scaled), _CHUNK))
        codes = np.concatenate([fitted.predict(part) for part in parts])
    rank = np.argsort(np.argsort(-np.bincount(codes, minlength=clusters), kind="stable"), kind="stable")
    return pd.Categorical.from_codes(rank[codes], pd.Index([str(i + 1) for i in range(clusters)]))
