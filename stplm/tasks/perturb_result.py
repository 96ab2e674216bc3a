"""What a perturbation found, in memory or in its folder."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from zipfile import BadZipFile

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from stplm.errors import StplmError
from stplm.io.staged import staged_file
from stplm.tasks.perturb_spatial import Response
from stplm.tasks.perturb_store import ABOUT, FolderStore, MemoryStore, Store

FEW_CELLS = 10
_GENES, _RINGS, _RESPONSE, _VECTORS = "genes.parquet", "rings.parquet", "response.parquet", "vectors.npz"
Kept = tuple[NDArray[np.int64], NDArray[np.float32]]
"""Cells (m,), by their position in the table, and their whole vectors (m, dim) after."""


@dataclass
class Perturbation:
    """The answer of :func:`stplm.perturb`.

    Attributes
    ----------
    genes
        A row a set of genes, in the order they were asked for: ``genes`` (the name), ``detections`` (cells perturbed),
        ``dose`` (mean share of molecules changed), means over these cells of ``shift``, ``to_goal``, ``from_start``,
        ``tumour``, ``own_class`` (as far as asked for) and ``class: X``; then, of the measure ``info["effect"]``:
        ``null`` (mean of genes of like expression), ``effect_size`` (rank-biserial, -1 to 1), ``p_value``, ``fdr``;
        ``noise`` (how large it gets by chance) and ``within_noise``.
    rings
        How the cells around answered, a row a set and ring of distance in µm; None where it was not asked for.
    response
        The same cell by cell, by set name.
    n_cells
        Cells of the table.
    vectors
        Of some of each set's cells, the whole cell vector after, by set name; empty where they were not asked for.
    info
        Model, mode, measure, effect, noise, seed and versions, as plain values.
    """

    genes: pd.DataFrame
    store: Store
    n_cells: int
    rings: pd.DataFrame | None = None
    response: dict[str, Response] = field(default_factory=dict)
    info: dict[str, Any] = field(default_factory=dict)
    vectors: dict[str, Kept] = field(default_factory=dict)

    def variants(self, name: str | None = None) -> pd.DataFrame:
        """A row a variant: ``cell`` (position in the table), ``set`` (row of ``genes``), ``dose`` and what was
        measured.
                Of one set where ``name`` says so. Raises StplmError when there is no such set.
        """
        frames = list(self.store.variants(set_=None if name is None else self._row(name)))
        return pd.concat(frames, ignore_index=True) if frames else pd.DataFrame()

    def per_cell(self, name: str, measure: str = "shift") -> NDArray[np.float32]:
        """(n_cells,) one measure of one set; NaN for cells that were not perturbed. Raises StplmError."""
        frame = self.variants(name)
        if len(frame) and measure not in frame:
            raise StplmError(f"{measure!r} was not measured.", expected=", ".join(map(str, frame.columns[2:])))
        values = np.full(self.n_cells, np.nan, dtype=np.float32)
        if len(frame):
            values[frame["cell"].to_numpy()] = frame[measure].to_numpy()
        return values

    def response_per_cell(self, name: str, measure: str = "shift") -> NDArray[np.float32]:
        """(n_cells,) how the cells around answered to a set; NaN for the perturbed, and for cells out of reach."""
        values = np.full(self.n_cells, np.nan, dtype=np.float32)
        if (found := self.response.get(name)) is not None:
            values[found.cells] = found.shift if measure == "shift" else found.opinions[measure]
        return values

    def kept_vectors(self, name: str) -> Kept:
        """Cells (m,) of which a set's vectors were kept, and the whole cell vectors (m, dim) after. Raises
        StplmError."""
        if name not in self.vectors:
            self._row(name)
            raise StplmError("No vectors were kept of this perturbation.", mend="Run it with keep_vectors=2000.")
        return self.vectors[name]

    def save(self, folder: str | Path) -> Path:
        """Write the folder: ``genes.parquet``, ``rings.parquet``, ``response.parquet``, ``vectors.npz``,
        ``perturbation.json`` and, a row a variant, ``parts/*.parquet``. Raises ExportError when it holds another
        perturbation."""
        store = FolderStore(Path(folder), self.info["run"])
        if isinstance(self.store, MemoryStore):
            self.store.copy_to(store)
        frames = {_GENES: self.genes, _RINGS: self.rings, _RESPONSE: self._response_frame()}
        for name, frame in frames.items():
            if frame is not None:
                with staged_file(store.folder / name) as stage:
                    frame.to_parquet(stage, index=False)
        if self.vectors:
            # Numbered, since a name may hold what a file's name cannot.
            arrays: dict[str, Any] = {"names": np.array(list(self.vectors))}
            for i, (cells, after) in enumerate(self.vectors.values()):
                arrays |= {f"c{i}": cells, f"v{i}": after}
            with staged_file(store.folder / _VECTORS) as stage, stage.open("wb") as file:
                np.savez(file, **arrays)
        about = {"run": self.info["run"], "n_cells": self.n_cells, "info": self.info}
        store.write(ABOUT, json.dumps(about, indent=1, default=str))
        return store.folder

    @classmethod
    def load(cls, folder: str | Path) -> Perturbation:
        """Read what :meth:`save` wrote. Raises StplmError when it is not a whole perturbation."""
        folder = Path(folder)
        try:
            about = json.loads((folder / ABOUT).read_text(encoding="utf-8"))
            genes, info, n_cells = pd.read_parquet(folder / _GENES), about["info"], int(about["n_cells"])
            rings = pd.read_parquet(folder / _RINGS) if (folder / _RINGS).is_file() else None
            frame = pd.read_parquet(folder / _RESPONSE) if (folder / _RESPONSE).is_file() else None
            vectors = _vectors(folder / _VECTORS) if (folder / _VECTORS).is_file() else {}
        except (OSError, ValueError, KeyError, TypeError, BadZipFile) as error:
            raise StplmError(
                "This is not a finished perturbation.",
                where=folder,
                found=f"{type(error).__name__}: {error}",
                mend="Run it again with the same folder: it goes on where it stopped.",
            ) from error
        return cls(genes, FolderStore(folder), n_cells, rings, _responses(frame), info, vectors)

    def ranked(self) -> NDArray[np.int64]:
        """Rows of ``genes`` by what they do, the largest effect first: those that 10 cells or more express before those
        of fewer, whose mean is mostly chance; then those within noise. What no cell expresses is left out."""
        there = np.flatnonzero(self.genes["detections"].to_numpy() > 0)
        mine = self.genes.iloc[there]
        size = mine[self.info["effect"]].abs().fillna(0).to_numpy()
        few = (mine["detections"] < FEW_CELLS).to_numpy() & (
            mine["detections"] < self.genes["detections"].max()
        ).to_numpy()
        return np.asarray(there[np.lexsort((-size, few, mine["within_noise"].to_numpy()))])

    def _row(self, name: str) -> int:
        found = np.flatnonzero(self.genes["genes"].to_numpy() == name)
        if not len(found):
            some = ", ".join(map(str, self.genes["genes"][:8]))
            raise StplmError(f"{name!r} was not perturbed.", expected=f"one of {some}")
        return int(found[0])

    def _response_frame(self) -> pd.DataFrame | None:
        if not self.response:
            return None
        frames = [
            pd.DataFrame({"cell": r.cells, "distance": r.distance, "shift": r.shift, **r.opinions}).assign(genes=name)
            for name, r in self.response.items()
        ]
        return pd.concat(frames, ignore_index=True)


def _vectors(path: Path) -> dict[str, Kept]:
    with np.load(path, allow_pickle=False) as arrays:
        return {str(name): (arrays[f"c{i}"], arrays[f"v{i}"]) for i, name in enumerate(arrays["names"])}


def _responses(frame: pd.DataFrame | None) -> dict[str, Response]:
    found = {}
    for name, part in () if frame is None else frame.groupby("genes", sort=False):
        arrays = {str(c): part[c].to_numpy() for c in part if c not in ("genes", "cell")}
        distance, shift = arrays.pop("distance"), arrays.pop("shift")
        found[str(name)] = Response(part["cell"].to_numpy(), distance, shift, arrays)
    return found
