"""Embed every cell of a section in memory: vectors, clusters of them, and where they come from."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal

from stplm import keys
from stplm.models import DEFAULT, Model, load_model, versions
from stplm.progress import Progress, no_progress

if TYPE_CHECKING:
    from pathlib import Path

    import numpy as np
    from anndata import AnnData
    from numpy.typing import NDArray
    from spatialdata import SpatialData


def embed(
    table: AnnData | SpatialData,
    model: str | Path | Model = DEFAULT,
    *,
    adapt: bool | Literal["auto"] = "auto",
    keep_adapted: str | Path | None = None,
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
        First continue self-supervised training on this section (:func:`stplm.adapt`), a minute or two on a processor;
        "auto": where the model knows too few of a large section's genes (:mod:`stplm.tasks.adapt`). Each section then
        has a model of its own: to use a classifier on several, keep the first one's, and give it as ``model`` for the
        others.
    keep_adapted
        Folder for the model if it is adapted, so that others can be asked of it later (:func:`stplm.perturb`); one that
        is there is replaced.
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
    from stplm.tasks.adapt import STEPS, knows_too_little
    from stplm.tasks.adapt import adapt as adapt_model
    from stplm.tasks.device import choose_device
    from stplm.tasks.encode import encode
    from stplm.tasks.sources import Source

    table = as_table(table)
    loaded = load_model(model)
    n_cells, done_before = table.n_obs, 0
    if adapt == "auto":
        adapt = knows_too_little(loaded.encoder.genes, table)
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
        if keep_adapted is not None:
            loaded.save(keep_adapted, overwrite=True)
    source = Source.of_table(table, loaded.encoder.genes)
    vectors = encode(
        loaded.encoder,
        source,
        neighbours=neighbours,
        device=choose_device(device),
        dtype=dtype,
        progress=lambda d, n: progress(done_before + d, done_before + n),
    )
    put_vectors(
        table,
        vectors,
        loaded,
        genes_known=len(source.rows),
        adapted=adapt,
        seed=seed,
        tissue=neighbours and source.xy is not None,
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
    from stplm.tasks.clusters import cluster

    labels = cluster(vectors, clusters, seed) if clusters else None
    table.obsm[keys.X_STPLM] = vectors
    if labels is not None:
        table.obs[keys.CLUSTER] = labels
    table.uns.setdefault(keys.UNS, {})[keys.UNS_EMBEDDING] = embedding_note(
        model,
        genes_known=genes_known,
        genes_total=table.n_vars,
        adapted=adapted,
        seed=seed,
        tissue=tissue,
        dtype=dtype,
    )


def embedding_note(
    model: Model, *, genes_known: int, genes_total: int, adapted: bool, seed: int, tissue: bool, dtype: str
) -> dict[str, Any]:
    """How vectors were made, in plain values for ``uns["stplm"]["embedding"]``."""
    return {
        "model": model.name,
        "sha256": model.fingerprint(),
        "dim": model.dim,
        "own_dim": model.encoder.config.own_width,
        "genes_known": genes_known,
        "genes_total": genes_total,
        "adapted": adapted,
        "seed": seed,
        "tissue": tissue,
        "dtype": dtype,
        "versions": versions(),
    }
