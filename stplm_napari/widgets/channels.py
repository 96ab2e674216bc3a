"""The image channels of the section: which are seen, in which colour, between which intensities."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from qtpy.QtCore import Qt
from qtpy.QtGui import QColor
from qtpy.QtWidgets import QCheckBox, QColorDialog, QHBoxLayout, QToolButton, QVBoxLayout, QWidget
from superqt import QDoubleRangeSlider

from stplm_napari.prepare import contrast_of
from stplm_napari.widgets.icons import swatch_icon
from stplm_napari.widgets.style import button, text

if TYPE_CHECKING:
    from napari.layers import Image

    from stplm_napari.widgets.common import Dock


class Channels(QWidget):
    """One row a channel. The state is that of napari's layers."""

    def __init__(self, dock: Dock) -> None:
        super().__init__()
        self._workspace = dock.workspace
        self._layout = QVBoxLayout(self)
        self._layout.setContentsMargins(0, 0, 0, 0)
        self._layout.setSpacing(6)
        self.none = text("This section brings no image.", "hint")
        self._layout.addWidget(self.none)
        self.rows: list[ChannelRow] = []
        for signal in (dock.session.section_opened, self._workspace.drawing.changed):
            dock.listen(signal, self.refresh)
        self.refresh()

    def refresh(self) -> None:
        """Rows for the image layers there are."""
        canvas = self._workspace.canvas
        images = [] if canvas is None else canvas.layers.images
        if [row.image for row in self.rows] != images:
            for row in self.rows:
                row.close_row()
                self._layout.removeWidget(row)
                row.deleteLater()
            self.rows = [ChannelRow(image, self._workspace.jobs) for image in images]
            for row in self.rows:
                self._layout.addWidget(row)
        self.none.setVisible(not images)


class ChannelRow(QWidget):
    """One channel."""

    def __init__(self, image: Image, jobs: Any) -> None:
        super().__init__()
        self.image, self._jobs = image, jobs
        outer = QVBoxLayout(self)
        outer.setContentsMargins(0, 0, 0, 0)
        outer.setSpacing(2)
        top, below = QHBoxLayout(), QHBoxLayout()
        self.eye = QCheckBox(image.name)
        self.eye.setToolTip("Show or hide this channel")
        self.eye.toggled.connect(lambda on: setattr(image, "visible", on))
        self.colour = QToolButton()
        self.colour.setProperty("kind", "tool")
        self.colour.setToolTip("Colour of the brightest pixels")
        self.colour.clicked.connect(self._choose_colour)
        top.addWidget(self.eye, 1)
        top.addWidget(self.colour)
        self.contrast = QDoubleRangeSlider(Qt.Orientation.Horizontal)
        self.contrast.setToolTip("Intensities drawn black and brightest")
        self.contrast.valueChanged.connect(lambda pair: setattr(image, "contrast_limits", pair))
        self.auto = button(
            "Auto", self.find_contrast, "link", tip="From the 2nd to the 99.7th percentile of the tissue"
        )
        below.addWidget(self.contrast, 1)
        below.addWidget(self.auto)
        outer.addLayout(top)
        outer.addLayout(below)
        self._events = (image.events.visible, image.events.contrast_limits, image.events.colormap)
        for event in self._events:
            event.connect(self._refresh)
        self._end = 2 * image.contrast_limits[1]
        self._refresh()

    def close_row(self) -> None:
        """Follow the layer no more."""
        for event in self._events:
            event.disconnect(self._refresh)

    def find_contrast(self) -> None:
        """Percentiles of a coarse level, read in a thread."""
        image = self.image
        planes = list(image.data) if image.multiscale else [image.data]

        def put(found: tuple[float, float]) -> None:
            image.contrast_limits = found

        self._jobs.start(f"Contrast of {image.name}", lambda _: contrast_of(planes), put, quiet=True)

    def _refresh(self, *_: Any) -> None:
        image = self.image
        for made in (self.eye, self.contrast):
            made.blockSignals(True)
        self.eye.setChecked(image.visible)
        lowest, highest = image.contrast_limits
        # Most of a 16-bit range is empty: the slider ends at some times what is brightest by default.
        self._end = max(self._end, highest)
        self.contrast.setRange(min(0, lowest), self._end)
        self.contrast.setValue((lowest, highest))
        for made in (self.eye, self.contrast):
            made.blockSignals(False)
        self.colour.setIcon(swatch_icon(self._brightest().name()))

    def _brightest(self) -> QColor:
        return QColor.fromRgbF(*map(float, self.image.colormap.colors[-1][:3]))

    def _choose_colour(self) -> None:
        found = QColorDialog.getColor(self._brightest(), self, f"Colour of {self.image.name}")
        if found.isValid():
            self.set_colour(found.name())

    def set_colour(self, colour: str) -> None:
        """From black to this colour."""
        from napari.utils.colormaps import Colormap

        self.image.colormap = Colormap(["#000000", colour], name=f"black to {colour}")
