"""Cell tables on their way to the worker process."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from anndata import AnnData


def hand_over(table: AnnData, path: Path) -> None:
    """Write a table as a file that the worker reads: uncompressed, since it is read once and soon."""
    import anndata

    with anndata.settings.override(allow_write_nullable_strings=True):
        table.write_h5ad(path)
