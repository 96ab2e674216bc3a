"""A section as a table file, so that a large one is worked on piece by piece: an ``.h5ad`` of ours as it is, a large
Xenium bundle laid out as one beside the output.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from stplm.errors import Cancelled, StplmError
from stplm.io.export import Format, export, with_ending
from stplm.io.frames import find_frame
from stplm.io.matrix import stored_values
from stplm.io.staged import check_target, staged_file
from stplm.io.table_builder import CountsWriter, mark_element
from stplm.io.table_file import LAID_OUT, TableFile, edited_copy, is_table_file
from stplm.io.xenium import read_xenium_table
from stplm.io.xenium_bundle import EXPERIMENT, MASKS, MATRIX, is_bundle
from stplm.progress import Progress, no_progress

LARGE = 50_000_000
"""Stored counts from which a bundle is laid out: some 700,000 cells of 377 genes. Results do not depend on it."""


@contextmanager
def as_table_file(section: str | Path, out: str | Path, progress: Progress = no_progress) -> Iterator[Path | None]:
    """The file of a section that :class:`stplm.io.table_file.TableFile` reads; None where it is to be read whole.

    A large bundle is laid out as ``.NAME.stplm-table.h5ad`` beside ``out``, and taken away when the body ends. Where
    the body is stopped it stays, and serves the next run if the bundle has not changed. Raises what
    :func:`stplm.read_section` raises, and ExportError.
    """
    if is_table_file(section):
        yield Path(section)
        return
    bundle = large_bundle(section)
    if bundle is None:
        yield None
        return
    target = Path(out).expanduser()
    file = target.with_name(f".{target.name}.stplm-table.h5ad")
    try:
        if mark_of(file) != _state(bundle):
            lay_out_bundle(bundle, file, progress)
        yield file
    except Cancelled:
        raise
    except StplmError:
        file.unlink(missing_ok=True)
        raise
    file.unlink(missing_ok=True)


def export_stored(section: str | Path, path: str | Path, kind: Format, *, overwrite: bool = False) -> Path | None:
    """:func:`stplm.export` of a section whose counts need not be in memory; None where the whole section is needed.

    That is an ``.h5ad`` of ours as anything but zarr, and a large bundle as ``.h5ad``.
    """
    target = with_ending(path, kind)
    if kind == "h5ad":
        with as_table_file(section, target) as file:
            if file is None:
                return None
            check_target(target, overwrite=overwrite)
            with edited_copy(file, target):
                return target
    if kind == "zarr" or not is_table_file(section):
        return None
    with TableFile(section) as table:
        return export(table.without_counts(), target, kind, overwrite=overwrite)


def large_bundle(section: str | Path) -> Path | None:
    """The folder of a Xenium bundle that is large enough to be laid out; None for everything else."""
    folder = Path(section).expanduser()
    if folder.is_dir() and is_bundle(folder) and (folder / MATRIX).is_file():
        return folder if stored_values(folder / MATRIX) >= LARGE else None
    return None


def lay_out_bundle(folder: Path, out: Path, progress: Progress = no_progress) -> None:
    """Write the cell table of a Xenium bundle as ``.h5ad``: what ``read_section`` gives and ``export`` writes, but its
    counts are never whole in memory; a block of them is, and the columns of the cells.

    ``progress`` counts stored values. Raises SectionError or GeneError as :func:`stplm.read_section`, ExportError where
    it cannot be written.
    """
    import anndata as ad
    import h5py
    from anndata.io import write_elem

    state = _state(folder)
    with (
        staged_file(out) as part,
        h5py.File(part, "w") as file,
        ad.settings.override(allow_write_nullable_strings=True),
    ):
        mark_element(file, "anndata", "0.1.0")
        counts = CountsWriter(file)
        table = read_xenium_table(folder, counts.add, progress)
        counts.finish(table.n_vars)
        for name in ("obs", "var"):
            write_elem(file, name, getattr(table, name))
        for name in ("obsm", "uns", "layers", "obsp", "varm", "varp"):
            write_elem(file, name, dict(getattr(table, name)))
        file.attrs[LAID_OUT] = state


def mark_of(path: Path) -> str | None:
    """The state of the bundle that a file was laid out from; None where it is none of these."""
    import h5py

    try:
        with h5py.File(path, "r") as file:
            return str(file.attrs[LAID_OUT])
    except (OSError, KeyError):
        return None


def _state(folder: Path) -> str:
    """Tells one state of a bundle from another without reading it."""
    found = [find_frame(folder, "cells"), *(folder / name for name in (EXPERIMENT, MATRIX, MASKS))]
    files = [(path.name, path.stat().st_size, path.stat().st_mtime_ns) for path in found if path and path.is_file()]
    return json.dumps([str(folder.resolve()), *files])
