"""Rank value encoding: a cell becomes the sentence of its genes, the most unusually expressed first.

After Geneformer (Theodoris et al. 2023) and the STPLM reference: each gene's count over the cell's total, over the
gene's median in a corpus, sorted in descending order. The total is the same for all genes of a cell, so it cannot
change a rank and is left out. Xenium counts are small, so equal values are the rule: ties go to the higher count (it
is the better measured), then to the lower token id.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import numpy as np
import pandas as pd
from scipy import sparse

from stplm import keys
from stplm.errors import GeneError
from stplm.io.validate import counts_csr
from stplm.progress import Progress, no_progress
from stplm.spatial.graph import NeighbourGraph
from stplm.tokens.counts import CountBlock, count_blocks
from stplm.tokens.encoded import RankTokens
from stplm.tokens.medians import choose_medians, load_medians, medians_of
from stplm.tokens.neighbourhood import graph_of, pooled_blocks
from stplm.tokens.pair_order import PairOrder
from stplm.tokens.ranking import rank_block, survey
from stplm.tokens.vocabulary import CLS, EOS, PAD, Vocabulary, gene_ids, load_vocabulary

if TYPE_CHECKING:
    from collections.abc import Iterator

    from anndata import AnnData
    from spatialdata import SpatialData


@dataclass(frozen=True)
class RankMode:
    """What a family of models expects: vocabulary, longest sentence, special tokens."""

    vocabulary: str
    max_length: int
    cls: bool
    eos: bool


MODES: Mapping[str, RankMode] = {
    "stplm": RankMode("stplm", 2048, cls=True, eos=False),
    "reference": RankMode("reference", 2048, cls=True, eos=False),
    "geneformer": RankMode("reference", 2048, cls=False, eos=False),
    "geneformer-v2": RankMode("reference", 4096, cls=True, eos=True),
}
"""``stplm``: our own models. ``reference``: the STPLM reference models. ``geneformer``, ``-v2``: Geneformer's, whose
token dictionary comes with the checkpoint: pass it as ``vocabulary`` where it is not the reference dictionary."""


def rank_encode(
    table: AnnData | SpatialData,
    *,
    medians: str | Path | Mapping[str, float] | pd.Series | None = None,
    mode: str = "stplm",
    vocabulary: Vocabulary | None = None,
    max_length: int | None = None,
    cls: bool | None = None,
    eos: bool | None = None,
    min_counts: int = 0,
    neighbours: Literal["each", "pooled"] | None = None,
    graph: NeighbourGraph | None = None,
    k: int | None = None,
    radius: float | None = None,
    progress: Progress = no_progress,
) -> RankTokens:
    """Encode cells, their neighbours, or their pooled neighbourhoods as ranked gene tokens.

    Parameters
    ----------
    table
        Cells with integer counts in X (sparse or dense, in memory or backed); genes as :func:`gene_ids` takes them.
    medians
        What counts are divided by: "breast", "colon", "lung", "flat" (all 1: ranks follow counts), a CSV's path, or
        figures by Ensembl id. Default: the shipped table that knows most of the panel, "flat" when none knows half
        of it; the choice depends on the panel, never on the cells. Genes it lacks get the median of its figures.
    mode
        "stplm", "reference", "geneformer" or "geneformer-v2", see :data:`MODES`.
    vocabulary
        Token ids, instead of the mode's. Genes outside it are left out.
    max_length
        Tokens a row at most, special tokens included. Default: the mode's, 2048 or 4096.
    cls, eos
        Put ``<cls>`` first, ``<eos>`` last. Default: the mode's.
    min_counts
        Cells under this many counts (over all genes of the table) give no row, and are no one's neighbour.
    neighbours
        None: one row a cell. "each": one row for each neighbour of each cell, nearest first (memory grows with the
        number of neighbours: a model that encodes each cell once needs only the cells' rows and the graph).
        "pooled": one row a cell, of the summed raw counts of its neighbours. Counts are summed, not normalised
        first: that is the neighbourhood's transcriptome, exact in any order, and faint cells add little noise.
    graph, k, radius
        Who is a neighbour: a graph over all cells of the table, or ``k`` nearest and/or ``radius`` in µm of
        ``obsm["spatial"]``. A cell is its own neighbour only where the graph says so.
    progress
        Called with cells done and all cells; may raise Cancelled.

    Returns
    -------
    RankTokens; ``cells`` says which cell a row belongs to. Cells without counts have a row of special tokens only.

    Raises
    ------
    GeneError
        No gene is known, one gene occurs twice, or there is no such mode, median table or special token.
    SectionError
        Counts are not whole numbers; neighbours are asked for and positions or graph are missing or do not fit.
    """
    from stplm.io.groups import as_table

    table = as_table(table)
    preset = _mode(mode)
    words = vocabulary or load_vocabulary(preset.vocabulary)
    specials = _specials(words, preset.cls if cls is None else cls, preset.eos if eos is None else eos)
    length = preset.max_length if max_length is None else max_length
    if length <= sum(token is not None for token in specials):
        raise ValueError(f"max_length={length} leaves no room for a gene")
    columns = _columns(table, words, medians)
    if neighbours is None:
        return _encode(count_blocks(table), table.n_obs, columns, words, specials, length, min_counts, progress)
    if neighbours not in ("each", "pooled"):
        raise ValueError(f"neighbours must be None, 'each' or 'pooled', not {neighbours!r}")
    near = graph_of(table, graph, k, radius)
    counts = counts_csr(table.to_memory().X if table.isbacked else table.X, "table.X")
    enough = np.asarray(counts.sum(axis=1)).ravel() >= min_counts
    if neighbours == "pooled":
        blocks = pooled_blocks(counts, near, enough)
        tokens = _encode(blocks, table.n_obs, columns, words, specials, length, 0, progress)
        return tokens if enough.all() else tokens.take(np.flatnonzero(enough))
    tokens = _encode(count_blocks(table), table.n_obs, columns, words, specials, length, 0, progress)
    owners = np.repeat(np.arange(near.n_cells, dtype=np.int32), near.degrees)
    keep = enough[owners] & enough[near.indices]
    owners, others = owners[keep], near.indices[keep]
    rows = tokens.take(others)
    return RankTokens(rows.ids, rows.bins, rows.offsets, owners, others, rows.vocabulary, rows.pad)


@dataclass(frozen=True)
class _Columns:
    """Of each gene of a table: its token (int32, -1 for none) and its median (float64)."""

    tokens: np.ndarray
    medians: np.ndarray


def _mode(name: str) -> RankMode:
    if name not in MODES:
        raise GeneError(f"There is no mode {name!r}.", expected=", ".join(MODES))
    return MODES[name]


def _specials(words: Vocabulary, cls: bool, eos: bool) -> tuple[int | None, int | None]:
    for wanted, token in ((cls, CLS), (eos, EOS), (True, PAD)):
        if wanted and token not in words.special:
            raise GeneError(f"The vocabulary {words.name!r} has no {token} token.")
    return (words.special[CLS] if cls else None), (words.special[EOS] if eos else None)


def _columns(
    table: AnnData, words: Vocabulary, medians: str | Path | Mapping[str, float] | pd.Series | None
) -> _Columns:
    ids = gene_ids(table)
    tokens = words.encode(ids)
    used = tokens[tokens >= 0]
    if not len(used):
        raise GeneError(f"No gene of the table is in the vocabulary {words.name!r}.", found=", ".join(ids[:3]))
    genes, times = np.unique(ids[tokens >= 0], return_counts=True)
    if (times > 1).any():
        raise GeneError(
            "Some genes are there twice.",
            where=f'var["{keys.ENSEMBL_ID}"]',
            found=", ".join(genes[times > 1][:3]),
            expected="each Ensembl id once",
            mend="Add up the columns of the same gene, or keep one of them.",
        )
    if medians is None:
        figures = choose_medians(genes)[1]
    elif isinstance(medians, str) and medians == "flat":
        figures = pd.Series(dtype=np.float64)
    else:
        figures = load_medians(medians)
    return _Columns(tokens, medians_of(ids, figures))


def _encode(
    blocks: Iterator[CountBlock],
    n_cells: int,
    columns: _Columns,
    words: Vocabulary,
    specials: tuple[int | None, int | None],
    max_length: int,
    min_counts: int,
    progress: Progress,
) -> RankTokens:
    dtype = np.int16 if words.size <= np.iinfo(np.int16).max else np.int32
    nothing = CountBlock(0, 0, sparse.csr_matrix((0, len(columns.tokens)), dtype=np.int32))
    order = PairOrder(columns.tokens, columns.medians)
    parts = [_encode_block(nothing, columns, order, specials, max_length, 0, dtype)]
    progress(0, n_cells)
    for block in blocks:
        parts.append(_encode_block(block, columns, order, specials, max_length, min_counts, dtype))
        progress(block.stop, n_cells)
    ids, bins, lengths, cells = (np.concatenate(arrays) for arrays in zip(*parts, strict=True))
    offsets = np.zeros(len(lengths) + 1, dtype=np.int64)
    np.cumsum(lengths, out=offsets[1:])
    return RankTokens(ids, bins, offsets, cells, None, words.name, words.special[PAD])


def _encode_block(
    block: CountBlock,
    columns: _Columns,
    order: PairOrder,
    specials: tuple[int | None, int | None],
    max_length: int,
    min_counts: int,
    dtype: type[np.signedinteger],
) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Token ids, count bins, row lengths and cells of one block, cells under ``min_counts`` left out."""
    counts, cells = block.counts, np.arange(block.start, block.stop, dtype=np.int32)
    if min_counts > 0:
        enough = np.asarray(counts.sum(axis=1)).ravel() >= min_counts
        counts, cells = counts[enough], cells[enough]
    first, last = specials
    around = (first is not None) + (last is not None)
    csr = (counts.indptr, counts.indices, counts.data)
    found, top = survey(*csr, columns.tokens)
    lengths = np.minimum(found, max_length - around) + around
    stops = np.cumsum(lengths)
    starts = stops - lengths
    size = int(stops[-1]) if len(stops) else 0
    ids, bins = np.zeros(size, dtype=dtype), np.zeros(size, dtype=np.uint8)
    gene_starts, gene_stops = starts + (first is not None), stops - (last is not None)
    rank_block(csr, columns.tokens, columns.medians, order, top, gene_starts, gene_stops, ids, bins)
    if first is not None:
        ids[starts] = first
    if last is not None:
        ids[stops - 1] = last
    return ids, bins, lengths, cells
