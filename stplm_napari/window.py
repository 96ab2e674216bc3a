"""Open napari with the STPLM docks, for ``stplm gui`` and ``stplm demo``."""

from __future__ import annotations

DOCKS = (
    "Section",
    "Embed",
    "Map",
    "Annotate",
    "Learn",
    "Classify",
    "View",
    "Inspect",
    "Perturb",
    "Fine-tune",
    "Apply",
    "Import",
    "Explore",
    "Export",
)


def open_window(section: str | None = None, *, run: bool = True) -> object:
    """Open a window with every dock, and ``section`` in it if given.

    Returns the viewer: when the window is closed, or at once with ``run=False``.
    """
    import napari

    from stplm_napari.workspace import Workspace

    viewer = napari.Viewer(title="STPLM")
    docks = [viewer.window.add_plugin_dock_widget("stplm-napari", dock, tabify=True)[0] for dock in DOCKS]
    docks[0].raise_()
    if section is not None:
        from pathlib import Path

        Workspace.of(viewer).open(Path(section))
    if run:
        napari.run()
    return viewer
