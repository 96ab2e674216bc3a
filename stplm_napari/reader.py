"""napari's reader: a Xenium folder dropped on the window, File › Open, and the sample section.

With a window, the section is opened by the Section dock, in the background and with progress, and no layer is returned.
Without one (``npe2.read``, scripts), the layers are returned as data.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from stplm_napari.sample import SCHEME, resolve
from stplm_napari.session_file import SUFFIX, find_section, is_session

LayerData = tuple[Any, ...]
_MANIFEST = "experiment.xenium"
_MATRIX = ("cell_feature_matrix.h5", "cell_feature_matrix.zarr.zip", "cell_feature_matrix")
_HDF5_GROUPS = {".h5ad": {"X", "obs", "var"}, ".loom": {"matrix", "col_attrs", "row_attrs"}, ".h5": {"matrix"}}


def get_reader(path: str | Sequence[str]) -> Callable[..., list[LayerData]] | None:
    """The function that opens ``path``, or None when it is not a section. Looks at names and a few bytes only."""
    if not isinstance(path, str):
        if len(path) != 1:
            return None
        path = path[0]
    return read if path.startswith(SCHEME) or is_section(Path(path)) else None


def is_section(path: Path) -> bool:
    """Whether a path looks like something :func:`stplm.read_section` reads.

    A Xenium folder or its ``experiment.xenium``; a SpatialData ``.zarr`` with a table; an ``.h5ad``, ``.loom`` or
    10x ``.h5`` file with cells in it. A saved session too, which stands for its section.
    """
    if path.is_dir():
        if path.suffix == SUFFIX:
            return is_session(path)
        if path.suffix == ".zarr":
            return (path / "tables").is_dir()
        return (path / _MANIFEST).is_file() or any((path / name).exists() for name in _MATRIX)
    if path.name == _MANIFEST:
        return True
    wanted = _HDF5_GROUPS.get(path.suffix.lower())
    return wanted is not None and path.is_file() and _has_groups(path, wanted)


def read(path: str | Sequence[str], **_: Any) -> list[LayerData]:
    """Open a section in the window, or return its layers where there is none. Raises SectionError."""
    where = resolve(path if isinstance(path, str) else path[0])
    where = where.parent if where.name == _MANIFEST else where
    viewer = _window()
    if viewer is not None:
        from stplm_napari.workspace import Workspace

        viewer.window.add_plugin_dock_widget("stplm-napari", "Section")
        workspace = Workspace.of(viewer)
        if is_session(where):
            from stplm_napari.widgets.sessions import open_session

            open_session(viewer.window._qt_window, workspace, where)
        else:
            workspace.open(where)
        return [(None,)]
    if is_session(where):
        where = find_section(where)
    return layer_data(where)


def layer_data(path: Path) -> list[LayerData]:
    """The layers of a section as data, read here and now. Raises SectionError."""
    import stplm
    from stplm_napari.layers import make_layers

    layers = make_layers(stplm.read_section(path))
    return [layer.as_layer_data_tuple() for layer in layers.all_layers()] or [(None,)]


def _window() -> Any | None:
    """The viewer of the open window, or None."""
    import napari

    viewer = napari.current_viewer()
    return viewer if viewer is not None and getattr(viewer, "window", None) is not None else None


def _has_groups(path: Path, wanted: set[str]) -> bool:
    import h5py

    try:
        with h5py.File(path) as file:
            return wanted <= set(file)
    except OSError:
        # Damaged: ours to refuse where nobody else reads such files, for the engine says what is wrong.
        return path.suffix.lower() != ".h5"
