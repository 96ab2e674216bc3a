"""Write a canonical cell table as ``.h5ad``, stretch by stretch of its cells: it is never whole in memory."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from stplm import keys
from stplm.io.genes import identify_genes
from stplm.io.staged import staged_file
from stplm.io.table_file import ROWS, put_attribute

if TYPE_CHECKING:
    import h5py
    from scipy.sparse import csr_matrix

_CHUNK = 1 << 18
"""Values of a chunk of counts: a megabyte, read at once."""
_PACKED: Mapping[str, Any] = {"compression": "gzip", "compression_opts": 1, "shuffle": True}
_MOST = 1 << 16
"""Counts a cell from which the median is not told apart."""


class CountsWriter:
    """Takes the counts of a table's cells in order, into the group ``X`` of a file."""

    def __init__(self, file: h5py.File) -> None:
        self._x = mark_element(file.create_group("X"), "csr_matrix", "0.1.0")
        self._stored, self._kept = 0, [np.zeros(1, dtype=np.int64)]
        for name in ("data", "indices"):
            self._x.create_dataset(name, (0,), np.int32, chunks=(_CHUNK,), maxshape=(None,), **_PACKED)

    def add(self, counts: csr_matrix) -> None:
        """The next cells: (m, n_genes) canonical int32 CSR."""
        for name, values in (("data", counts.data), ("indices", counts.indices)):
            self._x[name].resize((self._stored + len(values),))
            self._x[name][self._stored :] = values
        self._kept.append(np.diff(counts.indptr).astype(np.int64))
        self._stored += len(counts.data)

    def finish(self, n_genes: int) -> None:
        """After the last cells."""
        offsets = np.cumsum(np.concatenate(self._kept))
        self._x.create_dataset("indptr", data=offsets)
        self._x.attrs["shape"] = np.array([len(offsets) - 1, n_genes])


class TableBuilder:
    """Takes a table's cells in order. Made by :func:`built_table`."""

    def __init__(self, file: h5py.File, n_cells: int, symbols: NDArray[np.str_], gene_ids: NDArray[np.str_]) -> None:
        self._file, self._n, self._done = file, n_cells, 0
        self._genes = identify_genes(symbols, gene_ids, file.filename)
        self._depths = np.zeros(_MOST, dtype=np.int64)
        self._columns: list[str] = []
        mark_element(file, "anndata", "0.1.0")
        self._counts = CountsWriter(file)
        obs = mark_element(file.create_group("obs"), "dataframe", "0.2.0")
        # One dataset is the index and the column: ids are as large as all the rest of obs.
        obs.attrs["_index"] = keys.CELL_ID
        for name in ("layers", "obsm", "obsp", "varm", "varp"):
            mark_element(file.create_group(name), "dict", "0.1.0")
        import h5py

        self._column(keys.CELL_ID, h5py.string_dtype(), "string-array")
        for name, kind in ((keys.N_COUNTS, np.int32), (keys.N_GENES, np.int32), (keys.LOW_COUNTS, np.bool_)):
            self._column(name, kind)
        self._positions = _array(file["obsm"], keys.SPATIAL, (n_cells, 2), np.float64)

    def add(
        self,
        counts: csr_matrix,
        cell_ids: NDArray[np.str_],
        xy: NDArray[np.float64],
        columns: Mapping[str, NDArray[Any]] | None = None,
    ) -> None:
        """The next cells: ``counts`` (m, n_genes) canonical int32 CSR, their ids (m,), ``xy`` (m, 2) in µm, and further
        numbers of each (m,). All calls give the same ``columns``."""
        start, stop = self._done, self._done + counts.shape[0]
        self._counts.add(counts)
        depth = np.asarray(counts.sum(1), dtype=np.int64).ravel()
        self._depths += np.bincount(np.minimum(depth, _MOST - 1), minlength=_MOST)
        values = {
            keys.CELL_ID: cell_ids.astype(object),
            keys.N_COUNTS: depth,
            keys.N_GENES: np.diff(counts.indptr),
            keys.LOW_COUNTS: depth < keys.MIN_COUNTS,
            **(columns or {}),
        }
        for name, column in values.items():
            if name not in self._columns:
                self._column(name, column.dtype)
            self._file["obs"][name][start:stop] = column
        self._positions[start:stop] = xy
        self._done = stop

    def categories(self, name: str, codes: NDArray[np.integer], names: list[str]) -> None:
        """A categorical column of all cells: ``codes`` (n_cells,), -1 for none."""
        import pandas as pd
        from anndata.io import write_elem

        write_elem(self._file["obs"], name, pd.Categorical.from_codes(codes, pd.Index(names)))
        self._columns.append(name)

    def finish(self, source: Mapping[str, Any], warnings: list[str] | None = None) -> None:
        """After the last cells: genes, provenance and quality. ``source``: plain values."""
        import pandas as pd
        from anndata.io import write_elem

        if self._done != self._n:
            raise ValueError(f"{self._done} of {self._n} cells were added")
        self._counts.finish(len(self._genes.symbols))
        put_attribute(self._file["obs"], "column-order", self._columns)
        var = pd.DataFrame(
            {keys.ENSEMBL_ID: self._genes.ensembl_ids.astype(object)},
            index=pd.Index(self._genes.symbols.astype(object)),
        )
        write_elem(self._file, "var", var)
        middle = np.searchsorted(np.cumsum(self._depths), [(self._n + 1) // 2, self._n // 2 + 1])
        qc = {
            "n_cells": self._n,
            "n_genes": len(var),
            "n_known_genes": self._genes.n_known,
            "median_counts": float(middle.mean()),
            "n_low": int(self._depths[: keys.MIN_COUNTS].sum()),
            "n_empty": int(self._depths[0]),
            "control_features": {},
            "control_counts": {},
            "warnings": [*self._genes.warnings, *(warnings or [])],
        }
        write_elem(self._file, "uns", {keys.UNS: {keys.UNS_SOURCE: dict(source), keys.UNS_QC: qc}})

    def _column(self, name: str, kind: Any, encoding: str = "array") -> None:
        column = self._file["obs"].create_dataset(name, (self._n,), kind, chunks=(max(1, min(ROWS, self._n)),))
        mark_element(column, encoding, "0.2.0")
        self._columns.append(name)


@contextmanager
def built_table(
    path: str | Path, n_cells: int, symbols: NDArray[np.str_], gene_ids: NDArray[np.str_], *, overwrite: bool = False
) -> Iterator[TableBuilder]:
    """A table of ``n_cells`` cells to be filled; it takes its name when the body ends.

    Raises ExportError where it cannot be written, GeneError where the genes are not human or none is known.
    """
    import h5py

    with staged_file(path, overwrite=overwrite) as part, h5py.File(part, "w") as file:
        yield TableBuilder(file, n_cells, symbols, gene_ids)


def _array(group: h5py.Group, name: str, shape: tuple[int, int], kind: Any) -> h5py.Dataset:
    made = group.create_dataset(name, shape, kind, chunks=(max(1, min(ROWS, shape[0])), shape[1]))
    return mark_element(made, "array", "0.2.0")


def mark_element(element: Any, encoding: str, version: str) -> Any:
    """Say what an element is, as AnnData does; gives it back."""
    element.attrs["encoding-type"], element.attrs["encoding-version"] = encoding, version
    return element
