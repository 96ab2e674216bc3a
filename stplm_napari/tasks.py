"""What the steps of a session do to a cell table: thin calls of the engine, the same for the window and for scripts.

Each function takes a table that it may write to (see :func:`stplm_napari.results.snapshot`) and a step's parameters.
No Qt; torch is imported only where the engine needs it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from stplm import keys
from stplm.errors import LabelError
from stplm.palette import is_tumour_name
from stplm.progress import Progress, no_progress
from stplm_napari.handover import hand_over
from stplm_napari.process import WorkerProcess
from stplm_napari.region_export import write_regions
from stplm_napari.results import Result

if TYPE_CHECKING:
    import numpy as np
    from anndata import AnnData
    from numpy.typing import NDArray
    from spatialdata import SpatialData

    from stplm.evaluation.learning_curve import HeldOut
    from stplm.tasks.features import Features

FROM_LABELS, FROM_COLUMN, FROM_PROFILES = "labels", "column", "profiles"
ADAPTED = "adapted"
"""Folder of the adapted model, beside the vectors that it made."""
_TABLE, _VECTORS, _GROUPS = "table.h5ad", "vectors.npy", "groups.npy"


def embed(table: AnnData, params: Mapping[str, Any], progress: Progress = no_progress) -> None:
    """Embed every cell. ``params``: model, device, adapt, neighbours, seed, as ``stplm.embed`` takes them."""
    import stplm

    stplm.embed(table, **params, progress=progress)


def embed_in_worker(
    table: AnnData, params: Mapping[str, Any], folder: Path, worker: WorkerProcess, progress: Progress = no_progress
) -> Result:
    """:func:`embed` in the worker process; the table stays as it is. Files go to ``folder``."""
    hand_over(table, folder / _TABLE)
    worker.call("stplm_napari.tasks:embed_in_folder", folder, params, progress)
    return Result.load(folder)


def embed_in_folder(folder: Path, params: Mapping[str, Any], progress: Progress) -> None:
    """What the worker does for :func:`embed_in_worker`. The counts stay in the file, but for adapting."""
    import anndata

    from stplm.io.table_file import is_table_file
    from stplm.tasks.embed_file import embed_into

    if params.get("adapt") or not is_table_file(folder / _TABLE):
        table = anndata.read_h5ad(folder / _TABLE)
        kept = {"keep_adapted": folder / ADAPTED} if params.get("adapt") else {}
        embed(table, {**params, **kept}, progress)
        Result.embedding_of(table).save(folder)
        return
    settings = {name: value for name, value in params.items() if name != "adapt"}
    found = embed_into(folder / _TABLE, folder, **settings, progress=progress)
    obs = {} if found.clusters is None else {keys.CLUSTER: pd.Series(found.clusters)}
    Result(obs, {keys.X_STPLM: found.vectors}, {keys.UNS_EMBEDDING: found.note}).save(folder)


def umap_in_worker(
    vectors: NDArray[np.floating],
    groups: NDArray[np.integer] | None,
    params: Mapping[str, Any],
    folder: Path,
    worker: WorkerProcess,
    progress: Progress = no_progress,
) -> Result:
    """The map of these vectors, made in a worker process. ``params`` as ``stplm.umap`` takes them."""
    np.save(folder / _VECTORS, vectors)
    if groups is not None:
        np.save(folder / _GROUPS, groups)
    worker.call("stplm_napari.tasks:umap_in_folder", folder, params, progress)
    return Result.load(folder)


def umap_in_folder(folder: Path, params: Mapping[str, Any], progress: Progress) -> None:
    """What the worker does for :func:`umap_in_worker`. Without counts: a map needs none."""
    import anndata

    import stplm

    vectors = np.load(folder / _VECTORS, mmap_mode="r")
    table = anndata.AnnData(shape=(len(vectors), 0), obsm={keys.X_STPLM: vectors})
    if (folder / _GROUPS).exists():
        table.obs[keys.CLUSTER] = pd.Categorical(np.load(folder / _GROUPS))
    stplm.umap(table, **params, progress=progress)
    Result.map_of(table).save(folder)


def import_torch(folder: Path, params: Mapping[str, Any], progress: Progress) -> None:
    """Let the worker do its slow imports before the user asks for anything."""
    import stplm

    getattr(stplm, "embed")  # noqa: B009  (loads the module and torch)


def import_classifier() -> None:
    """Do the slow imports of :func:`classify`, so that the second labelled class recolours at once."""

    import stplm
    import stplm.tasks.cells
    import stplm.tasks.features
    from stplm.tokens.vocabulary import symbol_to_ensembl

    getattr(stplm, "fit_classifier")  # noqa: B009  (loads the module)
    symbol_to_ensembl()


def prepare_to_classify(features: Features, seed: int = 0) -> None:
    """What :func:`classify` derives from the features alone."""
    _ = features.scale, features.sample, features.kinds(seed)


def labels_for(table: AnnData, params: Mapping[str, Any]) -> pd.Series:
    """Class names by cell id, from where ``params["source"]`` says; the user's own labels always go first.

    ``labels``: the user's alone. ``column``: the obs column ``params["column"]``. ``profiles``: a few confident cells
    per type (``params["per_class"]``) found by the reference profiles ``params["profiles"]``. With each,
    ``params["labels"]`` is ``{class: [cell ids]}``. Raises LabelError.
    """
    own = pd.Series({cell: name for name, cells in params["labels"].items() for cell in cells}, dtype=object)
    source = params["source"]
    if source == FROM_LABELS:
        return own
    if source == FROM_COLUMN:
        base = _column(table, params["column"])
    elif source == FROM_PROFILES:
        base = _seeds(table, params["profiles"], params["per_class"], params.get("seed", 0))
    else:
        raise LabelError(f"Labels cannot come from {source!r}.", expected="labels, column or profiles")
    if len(own):
        base.loc[own.index] = own
    return base


def source_words(params: Mapping[str, Any], n_own: int, n_labels: int) -> str:
    """Where labels come from, in the user's words: "12 labels of yours"."""
    own = f"{n_own} label{'s' if n_own != 1 else ''} of yours"
    if params["source"] == FROM_LABELS:
        return own
    if params["source"] == FROM_COLUMN:
        base = f"{n_labels:,} labels of column {params['column']}"
    else:
        base = f"{n_labels:,} cells picked by the {params['profiles']} reference profiles"
    return f"{base}, {own} among them" if n_own else base


def _column(table: AnnData, name: str) -> pd.Series:
    if name not in table.obs:
        raise LabelError(f"The section has no column {name!r}.", expected=", ".join(label_columns(table)) or None)
    values = [None if pd.isna(v) or not str(v).strip() else str(v) for v in table.obs[name]]
    return pd.Series(values, index=table.obs_names, dtype=object)


def _seeds(table: AnnData, profiles: str, per_class: int, seed: int) -> pd.Series:
    import stplm

    seeds: pd.Series = stplm.seed_labels(table, profiles=profiles, per_class=per_class, seed=seed)
    return seeds.astype(object)


def classify(
    table: AnnData, params: Mapping[str, Any], features: Features | None = None, *, unknown: bool = True
) -> tuple[Any, pd.Series]:
    """Learn from the labels and call every cell. Returns the classifier and the labels it learnt from.

    ``params``: ``source`` and what :func:`labels_for` needs with it; ``tumour``, ``{class: whether it means tumour}``
    (classes that are not in it: by name); ``seed``. ``features`` and ``unknown`` as for ``stplm.predict``.
    """
    import stplm

    labels, tumour = labels_and_tumour(table, params)
    seeded = params["source"] == FROM_PROFILES
    classifier = stplm.fit_classifier(
        table, labels, tumour_classes=tumour, seeded=seeded, seed=params.get("seed", 0), features=features
    )
    stplm.predict(table, classifier, features=features, unknown=unknown)
    return classifier, labels


def labels_and_tumour(table: AnnData, params: Mapping[str, Any]) -> tuple[pd.Series, list[str]]:
    """:func:`labels_for`, labelled cells alone; and which of their classes mean tumour by ``params["tumour"]``."""
    labels = labels_for(table, params)
    labels = labels[labels.notna()]
    flags = params.get("tumour", {})
    return labels, [name for name in map(str, labels.unique()) if flags.get(name, is_tumour_name(name))]


def finetune(table: AnnData, params: Mapping[str, Any], **run: Any) -> Any:
    """Fine-tune a model on the labels; :func:`stplm.predict` takes it as its classifier.

    ``params``: as for :func:`classify`; ``model`` to start from, ``device``, ``config`` (fields of ``FinetuneConfig``
    that differ from the defaults) and ``stop_after`` (None: to the end). ``run`` goes to ``stplm.finetune``.
    """
    import stplm
    from stplm.tasks.finetune_config import FinetuneConfig

    labels, tumour = labels_and_tumour(table, params)
    return stplm.finetune(
        params["model"],
        table,
        labels,
        FinetuneConfig(**params["config"]),
        tumour_classes=tumour,
        device=params["device"],
        stop_after=params.get("stop_after"),
        **run,
    )


def suggest(
    table: AnnData, labels: pd.Series, skipped: Sequence[str], *, n: int, within: NDArray[np.int64] | None = None
) -> pd.DataFrame:
    """``stplm.suggest`` from the prediction that the table holds; ``labels`` are the user's own, by cell id."""
    import stplm

    rows = table.obs_names.get_indexer(np.array(skipped, object))
    frame: pd.DataFrame = stplm.suggest(table, labels=labels, skip=rows[rows >= 0], n=n, within=within)
    return frame


def held_out(
    table: AnnData, labels: pd.Series, *, history: bool = False, progress: Progress = no_progress
) -> list[HeldOut]:
    """Scores of the labels, held out in turn; with ``history``, from the first few of them on. [] where there are too
    few. ``labels`` are the user's own, in the order in which they were given."""
    import stplm
    from stplm.evaluation.learning_curve import curve_sizes

    try:
        earlier = (
            stplm.learning_curve(table, labels, curve_sizes(len(labels))[:-1], progress=progress) if history else []
        )
        return [*earlier, stplm.held_out(table, labels)]
    except LabelError:
        return []


def export(
    section: SpatialData,
    table: AnnData,
    path: str | Path,
    what: str,
    *,
    labels: Mapping[str, list[str]] | None = None,
    own_labels: bool = False,
    colours: Mapping[str, str] | None = None,
    overwrite: bool = False,
    regions: Sequence[Mapping[str, Any]] | None = None,
    **options: Any,
) -> Path:
    """``stplm.export`` with the user's labels (``{class: [cell ids]}``) as the column ``stplm_label``.

    With ``regions``, these are written (:mod:`stplm_napari.region_export`). ``own_labels`` exports the labels instead
    of the predicted classes; ``colours`` is the class registry's. Writes to ``table``, which is ``section``'s.
    """
    import stplm

    if regions is not None:
        return write_regions(section, table, path, what, regions, colours or {}, overwrite=overwrite)
    pairs = {cell: name for name, cells in (labels or {}).items() for cell in cells}
    if pairs:
        values = pd.Series(pairs).reindex(table.obs_names)
        table.obs[keys.LABEL] = pd.Categorical(values, categories=list(labels or {}))
    if what in ("explorer", "geojson"):
        options |= {"column": keys.LABEL if own_labels else keys.CLASS, "colours": dict(colours or {})}
    return Path(stplm.export(section, path, what=what, overwrite=overwrite, **options))


def label_columns(table: AnnData, most: int = 100) -> list[str]:
    """Columns of obs that can be class names: text or categories, 2 to ``most`` different values; ours left out."""
    names = []
    for name, column in table.obs.items():
        if str(name).startswith("stplm_") or name in ("cell_id", "region") or column.dtype.kind in "bifcmM":
            continue
        if 2 <= column.nunique() <= most:
            names.append(str(name))
    return names
