"""Vectors of cells: each encoded once from its counts, then placed in the tissue, band by band.

Memory holds a block of counts, a band of tissue, and the vectors wherever the caller keeps them: a section in memory
and one that is read from a file take the same path and get the same vectors. Pieces of either stage can be done in any
order and anywhere: blocks of cells (:func:`encode_own`), then bands of tiles from the own vectors around them
(:func:`encode_band`).
"""

from __future__ import annotations

from collections.abc import Callable, Container, Iterator
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from stplm.memory import let_go, trim
from stplm.progress import Progress, no_progress

if TYPE_CHECKING:
    from torch import Tensor

    from stplm.nn.encoder import Encoder, EncoderConfig
    from stplm.nn.team import Team
    from stplm.spatial.tiles import Band
    from stplm.tasks.cells import Cells
    from stplm.tasks.sources import CellBlock, Source

Vectors = NDArray[np.float32]
Finished = Callable[[int], None]

BLOCK = 65_536
"""Cells whose counts are read at once; a batch never reaches over the end of a block."""
BAND_CELLS = 131_072
"""Cells of a band, about: enough that what lies around it is little beside it."""


def encode(
    encoder: Encoder,
    cells: Cells | Source,
    *,
    neighbours: bool = True,
    device: Any = "cpu",
    dtype: str = "float32",
    progress: Progress = no_progress,
) -> Vectors:
    """Vectors (n_cells, dim) float32 of cells. Progress counts cells. Raises ValueError for another dtype."""
    from stplm.tasks.sources import Source

    source = cells if isinstance(cells, Source) else Source.of_cells(cells)
    n = len(source)
    vectors = np.zeros((n, encoder.config.dim), dtype=np.float32)
    alone = source.xy is None or not neighbours
    own = own_room(encoder, vectors, alone)
    with on_device(encoder, device, dtype) as team:
        own_part = 1.0 if alone else encoder.own_time
        for done in encode_own(encoder, source, own, team):
            progress(int(own_part * done), n)
        if not alone:
            for done in place_in_tissue(encoder, source, own, vectors, team):
                progress(int(n * own_part + (1 - own_part) * done), n)
    progress(n, n)
    return vectors


def own_room(encoder: Encoder, vectors: Vectors, alone: bool = False) -> Vectors:
    """Where own vectors go: into the cell vectors themselves, if these start with them unchanged; else (n, own_width)
    beside them."""
    width = encoder.config.own_width
    return vectors[:, :width] if alone or encoder.keeps_own else np.zeros((len(vectors), width), dtype=np.float32)


class on_device:
    """An encoder on a device and a team that works there; afterwards the encoder is on the CPU again.

    Raises ValueError for a dtype that is neither "float32" nor "bfloat16".
    """

    def __init__(self, encoder: Encoder, device: Any, dtype: str = "float32") -> None:
        from stplm.nn.team import Team

        if dtype not in ("float32", "bfloat16"):
            raise ValueError(f"dtype must be 'float32' or 'bfloat16', not {dtype!r}")
        self._encoder, self._team = encoder, Team(device, half=dtype == "bfloat16")

    def __enter__(self) -> Team:
        self._encoder.to(self._team.device).eval()
        return self._team.__enter__()

    def __exit__(self, *error: object) -> None:
        self._team.__exit__(*error)
        self._encoder.to("cpu")


def encode_own(
    encoder: Encoder,
    source: Source,
    own: Vectors,
    team: Team,
    *,
    skip: Container[int] = (),
    finished: Finished | None = None,
) -> Iterator[int]:
    """Write the own vectors of all cells into ``own`` (n, own_width); gives the number of cells done, again and again.

    ``own`` may be a memory-mapped file: it holds no more than a block in memory. Blocks of :data:`BLOCK` cells whose
    number is in ``skip`` are left as they are; ``finished`` is told each other one.
    """
    done = 0
    for number, start in enumerate(range(0, len(source), BLOCK)):
        stop = min(start + BLOCK, len(source))
        if number not in skip:
            for cells, vectors in encode_block(encoder, source.read(start, stop), source.rows, team):
                own[start + cells] = vectors
                done += len(cells)
                yield done
            let_go(own)
            trim()
            if finished is not None:
                finished(number)
        done = stop
        yield done


def encode_block(
    encoder: Encoder, block: CellBlock, rows: NDArray[np.int64], team: Team
) -> Iterator[tuple[NDArray[np.int64], Vectors]]:
    """Cells of each batch of a block, int64 (m,) as in the block, and their own vectors (m, own_width).

    ``rows``: the encoder's gene row of each of the block's known genes.
    """
    on_team = _tensor(rows, team)

    def batch(cells: NDArray[np.int64]) -> tuple[NDArray[np.int64], Vectors]:
        return cells, _numpy(encoder.encode_own(_tensor(block.dense(cells), team), on_team))

    yield from team.map(batch, encoder.batches(block.lengths()))


def bands(xy: NDArray[np.float64], config: EncoderConfig, cells: int | None = None) -> Iterator[Band]:
    """The bands of a section, of about ``cells`` cells (default :data:`BAND_CELLS`), with all cells that theirs see:
    those of the halo, and the neighbours of both."""
    from stplm.spatial.tiles import iter_bands

    return iter_bands(xy, config.tile_size, config.halo + config.neighbour_radius, cells or BAND_CELLS)


def encode_band(
    encoder: Encoder, xy: NDArray[np.float64], band: Band, own: Vectors, team: Team
) -> Iterator[tuple[NDArray[np.int64], Vectors]]:
    """Cells of each tile of a band, int64 (m,) as in the section, and their cell vectors (m, dim).

    Parameters
    ----------
    xy
        float64 (n, 2) in µm, of all cells of the section.
    own
        float32 (len(band.around), own_width): the own vectors of the cells in ``band.around``.
    """
    from scipy.sparse import csr_matrix

    from stplm.spatial.tiles import iter_tiles
    from stplm.tasks.cells import Cells, near_cells, surroundings

    config, near = encoder.config, xy[band.around]
    nothing = csr_matrix((len(near), 0), dtype=np.float32)
    cells = Cells(nothing, np.zeros(0, np.int64), near, *near_cells(near, config))
    own_of = _tensor(own, team)
    shared = next(team.map(encoder.shared, [own_of]))

    def one(tile: Any) -> tuple[NDArray[np.int64], Vectors]:
        around = surroundings(cells, tile.cells, tile.centre, own_of.device)
        vectors = encoder.in_tissue(own_of, shared, around)[: tile.n_own]
        return band.around[tile.cells[: tile.n_own]], _numpy(vectors)

    tiles = iter_tiles(near, config.tile_size, config.halo, origin=band.origin, rows=band.rows)
    yield from team.map(one, tiles)


def place_in_tissue(
    encoder: Encoder,
    source: Source,
    own: Vectors,
    vectors: Vectors,
    team: Team,
    *,
    skip: Container[int] = (),
    finished: Finished | None = None,
) -> Iterator[int]:
    """Write the cell vectors (n, dim) of all cells into ``vectors``, from their ``own`` ones; gives the number of cells
    done. Both may be memory-mapped files. ``skip``, ``finished``: numbers of bands, as for :func:`encode_own`."""
    assert source.xy is not None
    width = encoder.config.own_width if encoder.keeps_own else 0
    done = 0
    for number, band in enumerate(bands(source.xy, encoder.config)):
        before = done
        if number not in skip:
            for cells, found in encode_band(encoder, source.xy, band, own[band.around], team):
                vectors[cells, width:] = found[:, width:]
                done += len(cells)
                yield done
            let_go(own)
            let_go(vectors)
            trim()
            if finished is not None:
                finished(number)
        done = before + len(band.cells)
        yield done


def _tensor(array: NDArray[Any], team: Team) -> Tensor:
    import torch

    return torch.from_numpy(np.ascontiguousarray(array)).to(team.device)


def _numpy(tensor: Tensor) -> Vectors:
    return np.asarray(tensor.float().cpu().numpy())
