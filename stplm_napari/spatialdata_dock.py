"""What napari-spatialdata's View, Scatter and Annotation widgets need to work on our layers.

They look for a dock named "SpatialData" and take its model. Ours stands there hidden and costs nothing:
napari-spatialdata (8 s of imports) is loaded when one of its widgets first asks.
"""

from __future__ import annotations

import importlib.util
from typing import TYPE_CHECKING, Any

from qtpy.QtWidgets import QVBoxLayout, QWidget

if TYPE_CHECKING:
    from napari.viewer import Viewer
    from spatialdata import SpatialData

_NAME = "SpatialData"


def is_installed() -> bool:
    """Whether napari-spatialdata is there; does not import it."""
    return importlib.util.find_spec("napari_spatialdata") is not None


def make_importable() -> None:
    """Let napari-spatialdata be imported with PySide: it asks pyqtgraph for the name that a signal has in PyQt only.

    Seen in napari-spatialdata 0.7.2 with pyqtgraph 0.14. Does nothing where the name is there. Takes 0.6 s the first
    time; meant for a thread.
    """
    if not is_installed() or importlib.util.find_spec("pyqtgraph") is None:
        return
    from pyqtgraph.Qt import QtCore

    if not hasattr(QtCore, "pyqtSignal"):
        QtCore.pyqtSignal = QtCore.Signal


def link(viewer: Viewer, section: SpatialData) -> None:
    """Make a section known to napari-spatialdata's widgets. Where it has a dock of its own open, that one stays."""
    if not is_installed():
        return
    dock = dict(viewer.window.dock_widgets).get(_NAME)
    if dock is None:
        ours = SpatialDataDock(viewer, section)
        viewer.window.add_dock_widget(ours, name=_NAME, area="left", menu=viewer.window.window_menu).hide()
    elif isinstance(dock, SpatialDataDock):
        dock.add(section)


class SpatialDataDock(QWidget):
    """Stands in for napari-spatialdata's element list until it is shown or one of its widgets asks for the model."""

    def __init__(self, viewer: Viewer, section: SpatialData) -> None:
        super().__init__()
        self._viewer, self._sections = viewer, [section]
        self._inner: Any = None
        self._layout = QVBoxLayout(self)

    @property
    def viewer_model(self) -> Any:
        """napari-spatialdata's model of the viewer, with our layers registered."""
        return self._made().viewer_model

    def add(self, section: SpatialData) -> None:
        """One more section is open."""
        if not any(known is section for known in self._sections):
            self._sections.append(section)
            if self._inner is not None:
                self._inner._sdata.append(section)

    def showEvent(self, event: Any) -> None:
        """Qt's: the dock was opened from the Window menu."""
        self._made()
        super().showEvent(event)

    def _made(self) -> Any:
        if self._inner is None:
            make_importable()
            from napari.utils.events import EventedList
            from napari_spatialdata._sdata_widgets import SdataWidget

            self._inner = SdataWidget(self._viewer, EventedList(self._sections))
            self._layout.addWidget(self._inner)
            model = self._inner.viewer_model
            for layer in self._viewer.layers:
                # It keeps a record of each layer from its insertion on, and fails at the removal of one it never saw.
                if layer.metadata.get("sdata") is not None and layer.name not in model.layer_names:
                    model._on_layer_insert(_Inserted(layer))
        return self._inner


class _Inserted:
    """napari's event of an inserted layer, as far as it is read."""

    def __init__(self, layer: Any) -> None:
        self.value = layer
