"""Embed a cell table that stays on the disk: memory holds a block of counts and a band of tissue, whatever its size.

What is done already lies in a folder beside the output, so that a run that was cut off goes on where it stopped. The
vectors are those of :func:`stplm.embed`, bit by bit: both call :mod:`stplm.tasks.encode`.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from stplm import keys
from stplm.io.export import with_ending
from stplm.io.staged import check_target, make_folder
from stplm.io.table_file import ROWS, TableFile, edited_copy
from stplm.memory import let_go
from stplm.models import DEFAULT, Model, load_model
from stplm.progress import Progress, no_progress
from stplm.tasks.cells import matched_genes
from stplm.tasks.encode import BAND_CELLS, BLOCK, encode_own, on_device, own_room, place_in_tissue
from stplm.tasks.sources import Source

if TYPE_CHECKING:
    import pandas as pd

_ABOUT = "done.json"
_VECTORS, _OWN = "vectors.npy", "own.npy"


@dataclass(frozen=True)
class Embedded:
    """``vectors`` float32 (n, dim), a memory-mapped file; their clusters, if any; provenance in plain values."""

    vectors: NDArray[np.float32]
    clusters: pd.Categorical[str] | None
    note: dict[str, Any]


def embed_file(
    path: str | Path,
    out: str | Path,
    model: str | Path | Model = DEFAULT,
    *,
    neighbours: bool = True,
    device: str = "auto",
    dtype: str = "float32",
    seed: int = 0,
    clusters: int = 12,
    overwrite: bool = True,
    progress: Progress = no_progress,
) -> Path:
    """Embed the cells of an ``.h5ad`` without loading it, into a copy of it; gives the copy's path.

    Parameters
    ----------
    path
        A canonical cell table (:class:`stplm.io.table_file.TableFile`), of any number of cells.
    out
        What to write: the same table with what :func:`stplm.embed` adds. It may be ``path`` itself. Until it is whole,
        vectors lie in the folder ``.NAME.stplm-work`` beside it; what a run that was cut off left there is used.
    model, neighbours, device, dtype, seed, clusters
        As for :func:`stplm.embed`.
    progress
        Counts cells.

    Raises
    ------
    SectionError
        The file is not such a table, or its counts are not integers.
    GeneError
        The model knows none of the genes.
    ExportError
        The place cannot be written.
    Cancelled
        When ``progress`` raises it; finished parts are kept.
    """
    target = with_ending(out, "h5ad")
    check_target(target, overwrite=overwrite)
    folder = target.with_name(f".{target.name}.stplm-work")
    found = embed_into(
        path,
        folder,
        model,
        neighbours=neighbours,
        device=device,
        dtype=dtype,
        seed=seed,
        clusters=clusters,
        progress=progress,
    )
    write_embedded(path, target, found)
    shutil.rmtree(folder, ignore_errors=True)
    return target


def embed_into(
    path: str | Path,
    folder: Path,
    model: str | Path | Model = DEFAULT,
    *,
    neighbours: bool = True,
    device: str = "auto",
    dtype: str = "float32",
    seed: int = 0,
    clusters: int = 12,
    progress: Progress = no_progress,
) -> Embedded:
    """What :func:`embed_file` does before it writes: vectors in a file of ``folder``, which is made where it is missing
    and emptied where it holds other work."""
    from stplm.tasks.clusters import cluster
    from stplm.tasks.embed import embedding_note

    loaded = load_model(model)
    with TableFile(path) as table:
        source = source_of(table, loaded)
        alone = source.xy is None or not neighbours
        note = embedding_note(
            loaded,
            genes_known=len(source.rows),
            genes_total=table.n_vars,
            adapted=False,
            seed=seed,
            tissue=not alone,
            dtype=dtype,
        )
        kept = _Kept(folder, {"source": _stamp(table.path), "embedding": note, "pieces": [BLOCK, BAND_CELLS]})
        vectors = _vectors(loaded, source, alone=alone, device=device, dtype=dtype, kept=kept, progress=progress)
    return Embedded(vectors, cluster(vectors, clusters, seed) if clusters else None, note)


def source_of(table: TableFile, model: Model) -> Source:
    """The cells of a file as a model's encoder takes them. Raises GeneError, SectionError."""
    genes: Any = table
    columns, rows = matched_genes(genes, model.encoder.genes)
    return Source(table.counts, columns, rows, table.xy)


def _vectors(
    model: Model,
    source: Source,
    *,
    alone: bool,
    device: str,
    dtype: str,
    kept: _Kept,
    progress: Progress,
) -> NDArray[np.float32]:
    """Cell vectors (n, dim) in a file of the folder that is ``kept``, mapped into memory."""
    from stplm.tasks.device import choose_device

    encoder, n = model.encoder, len(source)
    vectors = kept.array(_VECTORS, (n, encoder.config.dim))
    inside = alone or encoder.keeps_own
    own = own_room(encoder, vectors, alone) if inside else kept.array(_OWN, (n, encoder.config.own_width))
    own_part = 1.0 if alone else encoder.own_time
    with on_device(encoder, choose_device(device), dtype) as team:
        for done in encode_own(encoder, source, own, team, skip=kept.blocks, finished=kept.block_done):
            progress(int(own_part * done), n)
        if not alone:
            for done in place_in_tissue(encoder, source, own, vectors, team, skip=kept.bands, finished=kept.band_done):
                progress(int(n * own_part + (1 - own_part) * done), n)
    return vectors


def write_embedded(path: str | Path, target: Path, found: Embedded) -> None:
    """A copy of a table file with what embedding found."""
    vectors = found.vectors

    def blocks() -> Iterator[NDArray[np.float32]]:
        for start in range(0, len(vectors), ROWS):
            yield np.array(vectors[start : start + ROWS])
            let_go(vectors)

    with edited_copy(path, target) as edit:
        edit.rows(keys.X_STPLM, vectors.shape[1], blocks())
        edit.note(keys.UNS_EMBEDDING, found.note)
        if found.clusters is not None:
            edit.column(keys.CLUSTER, found.clusters)


class _Kept:
    """A folder that holds finished pieces; one of other work, or of none, begins empty."""

    def __init__(self, folder: Path, about: dict[str, Any]) -> None:
        self.folder = folder
        self._about = hashlib.sha256(json.dumps(about, sort_keys=True, default=str).encode()).hexdigest()
        found = self._found()
        if found is None:
            make_folder(self.folder)
            for name in (_ABOUT, _VECTORS, _OWN):
                (self.folder / name).unlink(missing_ok=True)
        self.blocks, self.bands = (set(found[name]) if found else set() for name in ("blocks", "bands"))

    def array(self, name: str, shape: tuple[int, int]) -> NDArray[np.float32]:
        """A float32 file of this shape, mapped into memory; zeros where nothing was kept."""
        path = self.folder / name
        fresh = not path.is_file()
        room: NDArray[np.float32] = np.lib.format.open_memmap(
            path, mode="w+" if fresh else "r+", dtype=np.float32, shape=shape
        )
        return room

    def block_done(self, number: int) -> None:
        self.blocks.add(number)
        self._write()

    def band_done(self, number: int) -> None:
        self.bands.add(number)
        self._write()

    def _found(self) -> dict[str, Any] | None:
        try:
            found: dict[str, Any] = json.loads((self.folder / _ABOUT).read_text(encoding="utf-8"))
            return found if found["about"] == self._about else None
        except (OSError, ValueError, KeyError):
            return None

    def _write(self) -> None:
        part = self.folder / f"{_ABOUT}.part"
        content = {"about": self._about, "blocks": sorted(self.blocks), "bands": sorted(self.bands)}
        part.write_text(json.dumps(content), encoding="utf-8")
        os.replace(part, self.folder / _ABOUT)


def _stamp(path: Path) -> list[Any]:
    """Tells one state of a file from another without reading it."""
    state = path.stat()
    return [str(path.resolve()), state.st_size, state.st_mtime_ns]
