"""What is read of the open section, for opening it again: a session put back onto it needs neither its files nor a
second copy of a million cells. No Qt."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from stplm import keys
from stplm_napari.results import snapshot

if TYPE_CHECKING:
    from anndata import AnnData

    from stplm_napari.prepare import CellImage, Channel
    from stplm_napari.workspace import Workspace

OF_THE_SECTION = (keys.UNS_SOURCE, keys.UNS_QC)
"""Entries of ``uns["stplm"]`` that come with a section; the others are results."""


@dataclass(frozen=True)
class Held:
    """A section that is open: its elements, its cells as they came, its image channels, and its cells' label image."""

    section: Any
    table: AnnData
    channels: Sequence[Channel]
    cells: CellImage | None

    def put_in(self) -> None:
        """Make the cells those of the section. From the GUI thread, when the session that had it open ends."""
        self.section.tables[keys.TABLE] = self.table


def held(workspace: Workspace, path: Path) -> Held | None:
    """The section of that path where it is the open one, drawn, and its cells can be told as they came; else None.

    Results that a section came with may have been written over since: then it is read again.
    """
    session, canvas = workspace.session, workspace.canvas
    if canvas is None or session.path is None or session.path.resolve() != path.resolve():
        return None
    layers = canvas.layers
    if layers.section is None or layers.image is None or layers.section is not session.section:
        return None
    obs, obsm = session.came_with
    about = session.table.uns.get(keys.UNS, {})
    if any(name.startswith("stplm_") for name in (*obs, *obsm)) or keys.X_STPLM in obsm:
        return None
    if keys.UMAP in obsm and keys.UNS_MAP in about:
        return None
    return Held(layers.section, as_it_came(session.table, obs, obsm), layers.channels, layers.image)


def as_it_came(table: AnnData, obs: frozenset[str], obsm: frozenset[str]) -> AnnData:
    """A table without what was added to it; arrays are shared, not copied."""
    bare = snapshot(table)
    for name in [name for name in bare.obs if str(name) not in obs]:
        del bare.obs[name]  # column by column: choosing the others would copy them
    for name in [name for name in bare.obsm if str(name) not in obsm]:
        del bare.obsm[name]
    about = bare.uns.get(keys.UNS, {})
    bare.uns[keys.UNS] = {name: value for name, value in about.items() if name in OF_THE_SECTION}
    return bare
