"""Cells as token sentences in flat arrays: ids one after the other, and where each row starts."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from stplm.errors import SectionError
from stplm.io.staged import restore_interrupted, staged_folder

FORMAT = 1
ABOUT = "tokens.json"
FIRST_OF_BIN = np.array([0, 1, 2, 3, 4, 5, 7, 10, 14, 20, 28, 40, 56, 80, 113, 160], dtype=np.int64)
N_BINS = len(FIRST_OF_BIN)
"""Count bins: 0 for special tokens and padding, then 1, 2, 3, 4, 5-6, 7-9, 10-13, ... up to 160 and more."""
BIN_OF_COUNT = (np.searchsorted(FIRST_OF_BIN, np.arange(FIRST_OF_BIN[-1] + 1), side="right") - 1).astype(np.uint8)
"""Bin of counts 0 to 160; higher ones have that of 160."""


def count_bins(counts: np.ndarray) -> np.ndarray:
    """The bin of each count (integers from 0), uint8, same shape: single up to 4, then steps of about the root of 2."""
    bins: np.ndarray = BIN_OF_COUNT[np.minimum(counts, FIRST_OF_BIN[-1])]
    return bins


@dataclass(frozen=True)
class RankTokens:
    """Token sentences of cells (or of neighbours, or of neighbourhoods), one a row, genes in rank order.

    Attributes
    ----------
    ids
        int16 or int32 (whichever the vocabulary needs), (n_tokens,): the rows one after the other.
    bins
        uint8, (n_tokens,): count bin of each token (:func:`count_bins`), 0 for special tokens.
    offsets
        int64, (n_rows + 1,): row i is ``ids[offsets[i]:offsets[i + 1]]``.
    cells
        int32, (n_rows,): position in the table of the cell that a row belongs to.
    neighbours
        int32, (n_rows,): with ``neighbours="each"`` the position of the neighbour whose genes they are; else None.
    vocabulary
        Name of the vocabulary of the ids.
    pad
        The id that pads.
    """

    ids: np.ndarray
    bins: np.ndarray
    offsets: np.ndarray
    cells: np.ndarray
    neighbours: np.ndarray | None
    vocabulary: str
    pad: int

    def __len__(self) -> int:
        return len(self.offsets) - 1

    @property
    def lengths(self) -> np.ndarray:
        """Tokens in each row, int64 of shape (n_rows,)."""
        return np.diff(self.offsets)

    @property
    def nbytes(self) -> int:
        """Memory of all arrays, in bytes."""
        arrays = (self.ids, self.bins, self.offsets, self.cells, self.neighbours)
        return sum(array.nbytes for array in arrays if array is not None)

    def row(self, i: int) -> np.ndarray:
        """Token ids of one row (a view). Raises IndexError."""
        if not -len(self) <= i < len(self):
            raise IndexError(f"row {i} of {len(self)}")
        i %= len(self)
        return self.ids[self.offsets[i] : self.offsets[i + 1]]

    def take(self, rows: np.ndarray) -> RankTokens:
        """The given rows (positions, int), in that order; a row may be taken more than once."""
        rows = np.asarray(rows, dtype=np.int64)
        lengths = self.lengths[rows]
        offsets = np.zeros(len(rows) + 1, dtype=np.int64)
        np.cumsum(lengths, out=offsets[1:])
        places = np.repeat(self.offsets[rows] - offsets[:-1], lengths) + np.arange(offsets[-1])
        neighbours = None if self.neighbours is None else self.neighbours[rows]
        return RankTokens(
            self.ids[places], self.bins[places], offsets, self.cells[rows], neighbours, self.vocabulary, self.pad
        )

    def to_padded(
        self, max_length: int | None = None, rows: np.ndarray | None = None
    ) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Rows as a rectangle, for a model's batch.

        Parameters
        ----------
        max_length
            Columns; longer rows are cut. Default: the longest row.
        rows
            Positions of the rows to take; default all.

        Returns
        -------
        ids (n_rows, max_length) in the dtype of ``ids``, padded with ``pad``; bins, uint8; mask, bool, True on tokens.
        """
        rows = np.arange(len(self)) if rows is None else np.asarray(rows, dtype=np.int64)
        lengths = self.lengths[rows]
        width = int(lengths.max(initial=0)) if max_length is None else max_length
        column = np.arange(width)
        mask = column < lengths[:, None]
        ids = np.full(mask.shape, self.pad, dtype=self.ids.dtype)
        bins = np.zeros(mask.shape, dtype=np.uint8)
        places = (self.offsets[rows][:, None] + column)[mask]
        ids[mask], bins[mask] = self.ids[places], self.bins[places]
        return ids, bins, mask

    def save(self, folder: str | Path) -> None:
        """Write a folder of .npy files and a JSON, whole or not at all; tokens that are there are replaced.

        Raises ExportError: a folder of something else, or a place that cannot be written.
        """
        with staged_folder(folder, mark=ABOUT) as part:
            part.mkdir()
            for name in ("ids", "bins", "offsets", "cells", "neighbours"):
                if (array := getattr(self, name)) is not None:
                    np.save(part / f"{name}.npy", array, allow_pickle=False)
            about = {"format": FORMAT, "vocabulary": self.vocabulary, "pad": self.pad, "rows": len(self)}
            (part / ABOUT).write_text(json.dumps(about, indent=2) + "\n", encoding="utf-8")

    @classmethod
    def load(cls, folder: str | Path, *, memory_map: bool = True) -> RankTokens:
        """Read what :meth:`save` wrote; memory-mapped, so rows are read when they are used. Raises SectionError."""
        folder = Path(folder)
        restore_interrupted(folder)
        try:
            about = json.loads((folder / ABOUT).read_text(encoding="utf-8"))
            arrays = {
                name: np.load(folder / f"{name}.npy", mmap_mode="r" if memory_map else None, allow_pickle=False)
                for name in ("ids", "bins", "offsets", "cells")
            }
            other = folder / "neighbours.npy"
            neighbours = np.load(other, mmap_mode="r" if memory_map else None) if other.exists() else None
            tokens = cls(**arrays, neighbours=neighbours, vocabulary=about["vocabulary"], pad=about["pad"])
            whole = about["format"] == FORMAT and len(tokens) == len(tokens.cells) == about["rows"]
            whole = whole and tokens.offsets[-1] == len(tokens.ids) == len(tokens.bins)
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise _damaged(folder, str(error)) from error
        if not whole:
            raise _damaged(folder, "arrays that do not fit together, or another format")
        return tokens


def _damaged(folder: Path, found: str) -> SectionError:
    return SectionError(
        "This is not a whole folder of tokens.",
        where=folder,
        found=found,
        expected=f"{ABOUT} (format {FORMAT}) with ids, bins, offsets and cells as .npy",
        mend="Encode the section again.",
    )
