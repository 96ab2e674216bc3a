"""A canonical cell table in an ``.h5ad`` that is never loaded whole: counts by stretches of cells, columns one by one.

What a task finds is written into a copy of the file, column by column, rows by rows; the copy takes its name when it is
whole. Format: AnnData's HDF5 layout (encoding 0.1.0), which ``anndata.read_h5ad`` reads as any other.
"""

from __future__ import annotations

import shutil
from collections.abc import Iterable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from functools import cached_property
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import csr_matrix

from stplm import keys
from stplm.errors import SectionError
from stplm.io.hdf5 import damaged, open_hdf5
from stplm.io.staged import staged_file
from stplm.io.validate import counts_csr

if TYPE_CHECKING:
    import h5py
    import pandas as pd
    from anndata import AnnData

ROWS = 65_536
"""Cells that are read or written at once."""
LAID_OUT = "stplm-laid-out"
"""Attribute of a file that was made to be worked on, with the state of its source; results are without it."""
_COLUMNS = (keys.CELL_ID, keys.N_COUNTS, keys.N_GENES, keys.LOW_COUNTS)


class FileCounts:
    """Counts (n_cells, n_genes) in a file; ``counts[start:stop]`` reads those cells as canonical CSR, int32."""

    def __init__(self, group: h5py.Group, where: Path) -> None:
        self._data, self._indices, self._where = group["data"], group["indices"], where
        self.indptr: NDArray[np.int64] = np.asarray(group["indptr"][:], dtype=np.int64)
        self.shape = (len(self.indptr) - 1, int(group.attrs["shape"][1]))

    def __getitem__(self, cells: slice, /) -> csr_matrix:
        start, stop, _ = cells.indices(self.shape[0])
        stop = max(start, stop)
        first, last = int(self.indptr[start]), int(self.indptr[stop])
        try:
            parts = (self._data[first:last], self._indices[first:last], self.indptr[start : stop + 1] - first)
        except OSError as error:
            raise damaged(self._where, error) from error
        return counts_csr(csr_matrix(parts, shape=(stop - start, self.shape[1])), self._where)


class TableFile:
    """An ``.h5ad`` of the canonical form (:mod:`stplm.io.cell_table`), open for reading; close it, or use ``with``.

    Raises
    ------
    SectionError
        The file cannot be read, or its table is not canonical.
    """

    def __init__(self, path: str | Path) -> None:
        self.path = Path(path)
        self._open = ExitStack()
        self._file = self._open.enter_context(open_hdf5(self.path))
        if not _is_canonical(self._file):
            self.close()
            raise SectionError(
                "This file does not hold a cell table of ours, so it cannot be read piece by piece.",
                where=self.path,
                expected="an .h5ad as stplm export, embed or simulate --table write it",
                mend="Write it again: stplm export SECTION --out cells.h5ad",
            )
        self.counts = FileCounts(self._file["X"], self.path)
        self.n_obs, self.n_vars = self.counts.shape

    def __enter__(self) -> TableFile:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.close()

    def close(self) -> None:
        """Close the file; nothing can be read then."""
        self._open.close()

    @cached_property
    def var(self) -> pd.DataFrame:
        """The genes, as in the table."""
        genes: pd.DataFrame = self._read("var")
        return genes

    @property
    def var_names(self) -> pd.Index:
        return self.var.index

    @cached_property
    def notes(self) -> dict[str, Any]:
        """``uns["stplm"]``."""
        found: dict[str, Any] = self._read(f"uns/{keys.UNS}")
        return found

    @property
    def xy(self) -> NDArray[np.float64] | None:
        """Positions (n_cells, 2) in µm, read anew each time; None where there are none."""
        if f"obsm/{keys.SPATIAL}" not in self._file:
            return None
        return np.asarray(self._file[f"obsm/{keys.SPATIAL}"][:, :2], dtype=np.float64)

    def columns(self) -> list[str]:
        """Names of the obs columns."""
        return [str(name) for name in self._file["obs"].attrs["column-order"]]

    def column(self, name: str) -> Any:
        """One obs column, as AnnData reads it."""
        return self._read(f"obs/{name}")

    def cell_ids(self) -> Iterator[tuple[int, NDArray[np.str_]]]:
        """Ids of a stretch of cells after the other, with the number of the first."""
        import h5py

        stored = self._file[f"obs/{keys.CELL_ID}"]
        # Nullable text lies one level deeper.
        ids = (stored["values"] if isinstance(stored, h5py.Group) else stored).asstr()
        for start in range(0, self.n_obs, ROWS):
            yield start, ids[start : start + ROWS].astype(str)

    @property
    def obsm(self) -> h5py.Group:
        """The ``obsm`` arrays, to be sliced."""
        return self._file["obsm"]

    def without_counts(self) -> AnnData:
        """The table in memory without counts, vectors and probabilities: columns, positions and notes."""
        from anndata import AnnData

        xy = self.xy
        return AnnData(
            obs=self._read("obs"), var=self.var, uns=self._read("uns"), obsm={} if xy is None else {keys.SPATIAL: xy}
        )

    def _read(self, name: str) -> Any:
        from anndata.io import read_elem

        try:
            return read_elem(self._file[name])
        except (OSError, KeyError, ValueError) as error:
            raise damaged(self.path, error) from error


class TableEdit:
    """The copy of a table file that results are put into. Made by :func:`edited_copy`."""

    def __init__(self, file: h5py.File) -> None:
        self._file = file

    def column(self, name: str, values: Any) -> None:
        """An obs column (n_cells,): numbers or a categorical."""
        obs = self._file["obs"]
        self._put(obs, name, values)
        put_attribute(obs, "column-order", [*(c for c in obs.attrs["column-order"] if c != name), name])

    def drop_column(self, name: str) -> None:
        """Take an obs column out; nothing where there is none."""
        obs = self._file["obs"]
        if name in obs:
            del obs[name]
            put_attribute(obs, "column-order", [c for c in obs.attrs["column-order"] if c != name])

    def rows(self, name: str, width: int, blocks: Iterable[NDArray[np.float32]]) -> None:
        """An ``obsm`` array (n_cells, width) float32, from stretches of its rows in order."""
        obsm = self._file["obsm"]
        if name in obsm:
            del obsm[name]
        n = len(self._file["X/indptr"]) - 1
        array = obsm.create_dataset(name, (n, width), np.float32, chunks=(max(1, min(ROWS // 8, n)), width))
        array.attrs["encoding-type"], array.attrs["encoding-version"] = "array", "0.2.0"
        start = 0
        for block in blocks:
            array[start : start + len(block)] = block
            start += len(block)

    def note(self, name: str, values: Mapping[str, Any]) -> None:
        """An entry of ``uns["stplm"]``, plain values."""
        self._put(self._file[f"uns/{keys.UNS}"], name, dict(values))

    @staticmethod
    def _put(group: h5py.Group, name: str, values: Any) -> None:
        from anndata.io import write_elem

        if name in group:
            del group[name]
        write_elem(group, name, values)


@contextmanager
def edited_copy(source: str | Path, out: str | Path) -> Iterator[TableEdit]:
    """A copy of a table file to put results into; it becomes ``out`` when the body ends, which may be ``source``.

    Raises ExportError where it cannot be written; then what is there stays.
    """
    import h5py

    with staged_file(out) as part:
        shutil.copyfile(source, part)
        with h5py.File(part, "r+") as file:
            file.attrs.pop(LAID_OUT, None)
            yield TableEdit(file)


def is_table_file(path: str | Path) -> bool:
    """Whether a path is a file that :class:`TableFile` reads."""
    path = Path(path)
    if path.suffix.lower() != ".h5ad" or not path.is_file():
        return False
    try:
        with open_hdf5(path) as file:
            return _is_canonical(file)
    except SectionError:
        return False


def put_attribute(group: h5py.Group, name: str, words: list[str]) -> None:
    """A list of words as AnnData writes it."""
    import h5py

    group.attrs.create(name, words, dtype=h5py.string_dtype())


def _is_canonical(file: h5py.File) -> bool:
    import h5py

    x, obs = file.get("X"), file.get("obs")
    return (
        isinstance(x, h5py.Group)
        and isinstance(obs, h5py.Group)
        and x.attrs.get("encoding-type") == "csr_matrix"
        and x["data"].dtype.kind in "iu"
        and all(name in obs for name in _COLUMNS)
        and f"var/{keys.ENSEMBL_ID}" in file
        and f"uns/{keys.UNS}/{keys.UNS_QC}" in file
        and "obsm" in file
    )
