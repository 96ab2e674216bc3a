"""Many sections on disk for training: each converted once into flat arrays, then mapped into memory, never loaded.

A section's folder in the cache holds its counts as CSR of the smallest whole numbers, positions, neighbours, weights
and distances as ``.npy`` files, and ``section.json``: genes, and a checksum of the source's path, size and time and of
the settings. It is made again when any of them changes.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from stplm.errors import SectionError
from stplm.io.staged import make_folder, restore_interrupted, staged_folder
from stplm.tasks.cells import Cells, prepare_cells, table_genes
from stplm.tasks.stored import StoredCells, read_cells, write_cells
from stplm.tokens.vocabulary import gene_places

if TYPE_CHECKING:
    from anndata import AnnData

    from stplm.nn.encoder import EncoderConfig

_ABOUT = "section.json"
_FORMAT = 1


@dataclass(frozen=True)
class Blocks:
    """Squares of tissue of ``size`` µm; about ``share`` of the cells, ``buffer`` µm away from the others, held out."""

    size: float = 500.0
    buffer: float = 60.0
    share: float = 0.1
    seed: int = 0


@dataclass(frozen=True)
class HeldOut:
    """What a run is scored on every ``every`` steps, on ``batches`` batches: whole ``sections``, or ``blocks`` of all.

    ValueError for both or neither.
    """

    sections: Sequence[AnnData | str | Path] = ()
    blocks: Blocks | None = None
    every: int = 200
    batches: int = 4

    def __post_init__(self) -> None:
        if bool(len(self.sections)) == (self.blocks is not None):
            raise ValueError("hold out either sections or blocks")


@dataclass(frozen=True)
class StoredSection:
    """A section in the cache. ``genes``: Ensembl id of each column."""

    folder: Path
    source: str
    genes: list[str]
    n_cells: int
    checksum: str

    def cells(self, genes: list[str]) -> StoredCells:
        """Its cells for an encoder of these ``genes``, which hold all of the section's."""
        return read_cells(self.folder, gene_places(self.genes, genes), self.checksum)


def store_section(
    path: str | Path, cache: str | Path, config: EncoderConfig, *, blocks: Blocks | None = None, held_out: bool = False
) -> StoredSection:
    """Convert a section (any path that :func:`stplm.read_section` takes), or find it in the ``cache`` folder.

    Parameters
    ----------
    config
        Who is a neighbour.
    blocks, held_out
        Keep the cells to learn from, or those held out. None: all cells.

    Raises
    ------
    SectionError, GeneError
        The section cannot be read, or holds no cell or no known gene.
    """
    from stplm.io.cell_table import cell_table
    from stplm.io.read import read_section

    about = _source(Path(path), config, blocks, held_out)
    checksum = hashlib.sha256(json.dumps(about, sort_keys=True).encode()).hexdigest()
    folder = make_folder(cache) / f"{Path(path).name.replace('.', '_')}-{checksum[:16]}"
    restore_interrupted(folder)
    if not (folder / _ABOUT).is_file():
        table = cell_table(read_section(path, images=False, labels=False))
        if blocks is not None:
            table = table[_part(table, blocks, held_out, str(path))]
        _write(table, folder, config, {**about, "checksum": checksum})
    stored = json.loads((folder / _ABOUT).read_text(encoding="utf-8"))
    return StoredSection(folder, str(path), stored["genes"], stored["n_cells"], checksum)


@dataclass(frozen=True)
class LoadedSection:
    """A cell table in memory, as :class:`StoredSection` is one on disk."""

    table: AnnData
    config: EncoderConfig

    @property
    def genes(self) -> list[str]:
        """Ensembl ids of its known genes."""
        return [str(gene) for gene in table_genes(self.table) if gene]

    def cells(self, genes: list[str]) -> Cells:
        """Its cells for an encoder of these ``genes``."""
        return prepare_cells(self.table, genes, self.config)


def open_section(
    source: AnnData | str | Path,
    cache: Path,
    config: EncoderConfig,
    *,
    blocks: Blocks | None = None,
    held_out: bool = False,
) -> StoredSection | LoadedSection:
    """A path by way of the cache, a table as it is."""
    if isinstance(source, str | Path):
        return store_section(source, cache, config, blocks=blocks, held_out=held_out)
    if blocks is not None:
        source = source[_part(source, blocks, held_out, "table")].copy()
    return LoadedSection(source, config)


def _source(path: Path, config: EncoderConfig, blocks: Blocks | None, held_out: bool) -> dict[str, Any]:
    if not path.exists():
        raise SectionError("There is no section of that name.", where=path)
    files = [path] if path.is_file() else sorted(p for p in path.rglob("*") if p.is_file())
    stamps = [[str(f.relative_to(path)), f.stat().st_size, f.stat().st_mtime_ns] for f in files]
    return {
        "format": _FORMAT,
        "path": str(path.resolve()),
        "files": hashlib.sha256(json.dumps(stamps).encode()).hexdigest(),
        "neighbours": [config.neighbours, config.neighbour_radius, config.neighbour_scale],
        "blocks": None if blocks is None else [blocks.size, blocks.buffer, blocks.share, blocks.seed, held_out],
    }


def _part(table: AnnData, blocks: Blocks, held_out: bool, where: str) -> NDArray[np.bool_]:
    from stplm import keys
    from stplm.spatial.splits import split_blocks

    if keys.SPATIAL not in table.obsm:
        raise SectionError(
            "A section without positions cannot be split into blocks.",
            where=where,
            mend="Hold out whole sections instead.",
        )
    xy = np.asarray(table.obsm[keys.SPATIAL])[:, :2]
    split = split_blocks(xy, block=blocks.size, buffer=blocks.buffer, share=blocks.share, seed=blocks.seed)
    return split.test if held_out else split.train


def _write(table: AnnData, folder: Path, config: EncoderConfig, about: dict[str, Any]) -> None:
    genes = [str(gene) for gene in table_genes(table) if gene]
    cells = prepare_cells(table, genes, config)
    with staged_folder(folder, mark=_ABOUT) as stage:
        stage.mkdir()
        write_cells(cells, stage)
        # Columns are the genes in the order of the table.
        names = [genes[row] for row in cells.rows]
        text = json.dumps({**about, "genes": names, "n_cells": len(cells)}, indent=1)
        (stage / _ABOUT).write_text(text + "\n", encoding="utf-8")
