"""The Import dock: choose a file, see what is in it and in which unit, say what its classes are, put it in."""

from __future__ import annotations

from typing import TYPE_CHECKING

from magicgui.widgets import CheckBox, FloatSpinBox, LineEdit
from qtpy.QtCore import QSize
from qtpy.QtWidgets import (
    QButtonGroup,
    QComboBox,
    QFileDialog,
    QGridLayout,
    QHBoxLayout,
    QRadioButton,
    QToolButton,
    QVBoxLayout,
    QWidget,
)

from stplm.errors import ExportError
from stplm.io.exchange import MICRONS, PIXELS, Exchange
from stplm.io.outlines import pixels_a_micron
from stplm_napari.facts import Fact
from stplm_napari.importing import LEFT_OUT, NEW, Choice, Preview, suggest_class, units_words
from stplm_napari.region_outlines import NO_CLASS_COLOUR
from stplm_napari.widgets.common import Dock, EmptyState, Facts, More
from stplm_napari.widgets.icons import swatch_icon
from stplm_napari.widgets.panels import JobPanel
from stplm_napari.widgets.short import ShortBox, ShortLabel
from stplm_napari.widgets.style import button, empty_layout, text

if TYPE_CHECKING:
    from napari.viewer import Viewer

FILES = "Xenium Explorer, QuPath (*.csv *.geojson *.json *.gz *.txt);;All files (*)"
_MOST_CLASSES = 60
_LABELS, _COLUMN = "As labels", "As a column"


class ImportWidget(Dock):
    """Takes in regions, points and cell groups of Xenium Explorer and QuPath."""

    def __init__(self, napari_viewer: Viewer) -> None:
        super().__init__(napari_viewer)
        self.importer = self.workspace.importer
        self.closed = EmptyState("No section is open.", "Open a section", lambda: self.open_dock("Section"))
        words = (
            "Regions and labels from other programs.\n\nXenium Explorer: selections and cell groups (.csv, .geojson). "
            "QuPath: annotations (.geojson)."
        )
        self.empty = EmptyState(words, "Choose a file…", self.choose_file)
        self.reading = JobPanel(self.importer.reading, self, "Cancelled.")
        self.putting = JobPanel(self.importer.putting, self)
        self.done = text()
        self.undo = button("Undo", self._undo, "link", tip="Takes labels, regions and new classes back in one step")
        self.name_of_file, self.facts, self.notes = text(kind="title"), Facts(), text(kind="warn")
        self.units = _Units()
        self.classes = _Classes(self)
        self.cells_as = QComboBox()
        self.cells_as.addItems([_LABELS, _COLUMN])
        self.cells_as.setToolTip("Labels teach the classifier and can be undone; a column can be chosen in Classify")
        self.cells_as.currentTextChanged.connect(lambda _: self._refresh_cells())
        self.column = LineEdit(name="column", tooltip="Name of the column; one of that name is replaced")
        self.inside = CheckBox(
            name="inside", text="Label the cells inside too", tooltip="Cells whose centre lies in a region with a class"
        )
        self.cells = QWidget()
        row = QHBoxLayout(self.cells)
        row.setContentsMargins(0, 0, 0, 0)
        row.addWidget(text("Cells", "name", wrap=False))
        row.addWidget(self.cells_as)
        row.addWidget(self.column.native, 1)
        self.run = button("Import", self._run, "primary")
        self.other = button("Choose another file…", self.choose_file, "link")
        self.content = QWidget()
        layout = QVBoxLayout(self.content)
        layout.setContentsMargins(0, 0, 0, 0)
        layout.setSpacing(10)
        for part in (self.name_of_file, self.facts, self.units, self.classes, self.cells, self.inside.native):
            layout.addWidget(part)
        for part in (self.notes, self.run, self.other):
            layout.addWidget(part)
        for part in (self.closed, self.empty, self.reading, self.content, self.putting, self.done, self.undo):
            self.body.addWidget(part)
        self.body.addStretch(1)
        self._shown: Preview | None = None
        self.listen(self.session.section_opened, self.refresh)
        self.listen(self.session.classes_changed, self._refresh_classes)
        for slot in (self.importer.reading, self.importer.putting):
            self.listen(slot.changed, self.refresh)
        self.refresh()

    def choose_file(self) -> None:
        """Ask for a file and look at it."""
        start = str(self.workspace.exporter.folder())
        path, _ = QFileDialog.getOpenFileName(self, "Import regions or labels", start, FILES)
        if path:
            self.importer.read(path)

    def refresh(self) -> None:
        """Make what is shown equal to the state."""
        importer, is_open = self.importer, self.session.is_open
        preview = importer.preview if is_open else None
        busy = importer.reading.is_busy or importer.putting.is_busy
        self.closed.setVisible(not is_open)
        self.empty.setVisible(is_open and preview is None and not busy)
        self.content.setVisible(preview is not None)
        self.run.setEnabled(not busy)
        self.done.setVisible(bool(importer.done))
        self.done.setText(importer.done)
        step = self.session.annotations.can_undo
        self.undo.setVisible(bool(importer.done) and step is not None and step.name == "take_in")
        if preview is not None and preview is not self._shown:
            self._show(preview)
        self._shown = preview

    def _show(self, preview: Preview) -> None:
        exchange = preview.exchange
        self.name_of_file.setText(preview.path.name)
        self.name_of_file.setToolTip(str(preview.path))
        self.facts.show_facts(_facts(preview, self.session.table.n_obs))
        self.units.show_units(preview, self._pixel_size())
        self.column.value = preview.path.stem
        self.inside.visible = any(o.group for o in exchange.outlines)
        notes = list(exchange.notes)
        if exchange.n_cells and preview.known_cells < exchange.n_cells:
            notes.insert(0, f"{exchange.n_cells - preview.known_cells:,} of its cells are not in this section.")
        self.notes.setText("\n".join(notes))
        self.notes.setVisible(bool(notes))
        self._refresh_classes()
        self._refresh_cells()

    def _refresh_classes(self) -> None:
        if self.importer.preview is not None:
            self.classes.show_classes(self.importer.preview)

    def _refresh_cells(self) -> None:
        preview = self.importer.preview
        if preview is None:
            return
        self.cells.setVisible(preview.exchange.n_cells > 0)
        self.column.visible = self.cells_as.currentText() == _COLUMN

    def _pixel_size(self) -> float | None:
        try:
            return float(1 / pixels_a_micron(self.session.section, self.session.table)[0, 0])
        except ExportError:
            return None

    def _run(self) -> None:
        preview = self.importer.preview
        if preview is None:
            return
        as_column = preview.exchange.n_cells > 0 and self.cells_as.currentText() == _COLUMN
        self.importer.put_in(
            Choice(
                units=PIXELS if self.units.in_pixels else MICRONS,
                classes=self.classes.chosen(),
                column=self.column.value.strip() if as_column else "",
                label_inside=bool(self.inside.value) and self.inside.visible,
                pixel_size=self.units.own_pixel_size,
            )
        )

    def _undo(self) -> None:
        self.workspace.undo()
        self.importer.drop()


def _facts(preview: Preview, n_cells: int) -> list[Fact]:
    exchange = preview.exchange
    facts = [Fact("Found", exchange.source)]
    if exchange.outlines:
        holes = sum(len(o.rings) > 1 for o in exchange.outlines)
        more = f", {holes} with holes or parts" if holes else ""
        facts.append(Fact("Regions", f"{len(exchange.outlines):,}{more}"))
    if len(exchange.points):
        tip = "Each labels the cell whose centre is nearest, up to 10 µm away"
        facts.append(Fact("Points", f"{len(exchange.points):,}", tip))
    if exchange.n_cells:
        facts.append(Fact("Cells", f"{preview.known_cells:,} of the section's {n_cells:,}"))
    return facts


class _Units(QWidget):
    """µm or pixels: what was found out, for the user to confirm."""

    def __init__(self) -> None:
        super().__init__()
        layout = QVBoxLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        layout.setSpacing(4)
        self.microns, self.pixels = QRadioButton("Micrometres"), QRadioButton("Image pixels")
        self.microns.setToolTip("x to the right, y down, from the upper left corner of the image")
        self.pixels.setToolTip("Pixels of the full-resolution image, as QuPath counts them")
        self._group = QButtonGroup(self)
        row = QHBoxLayout()
        row.setContentsMargins(0, 0, 0, 0)
        row.setSpacing(14)
        row.addWidget(text("Units", "name", wrap=False))
        for choice in (self.microns, self.pixels):
            self._group.addButton(choice)
            row.addWidget(choice)
        row.addStretch(1)
        self.reason, self.check = text(kind="hint"), text(kind="warn")
        self.pixel_size = FloatSpinBox(
            name="size",
            min=0.0001,
            max=1000.0,
            step=0.0001,
            tooltip="µm a pixel of the image that was drawn on, if that was not the section's own DAPI image",
        )
        inner = QWidget()
        inside = QHBoxLayout(inner)
        inside.setContentsMargins(0, 0, 0, 0)
        inside.addWidget(text("µm a pixel", "name", wrap=False))
        inside.addWidget(self.pixel_size.native, 1)
        self.more = More(inner)
        layout.addLayout(row)
        for part in (self.reason, self.check, self.more):
            layout.addWidget(part)
        self.pixels.toggled.connect(self.more.setVisible)
        self._given = 0.0

    def show_units(self, preview: Preview, pixel_size: float | None) -> None:
        """Choose what was found."""
        found = preview.units
        self.setVisible(found is not None)
        if found is None:
            return
        (self.pixels if found.units == PIXELS else self.microns).setChecked(True)
        self.reason.setText(units_words(found))
        self.check.setText("" if found.certain else "Please check the units before you import.")
        self.check.setVisible(not found.certain)
        self._given = pixel_size or 0.2125
        self.pixel_size.value = self._given
        self.more.setVisible(found.units == PIXELS)

    @property
    def in_pixels(self) -> bool:
        """Whether pixels are chosen."""
        return self.pixels.isChecked()

    @property
    def own_pixel_size(self) -> float | None:
        """The size of a pixel where the user entered another than the section's."""
        return float(self.pixel_size.value) if abs(self.pixel_size.value - self._given) > 1e-6 else None


class _Classes(QWidget):
    """One row a class of the file: its colour there, how often, and which class of the user's it is."""

    def __init__(self, dock: ImportWidget) -> None:
        super().__init__()
        self._dock = dock
        self._grid = QGridLayout(self)
        self._grid.setContentsMargins(0, 0, 0, 0)
        self._grid.setHorizontalSpacing(8)
        self._grid.setVerticalSpacing(4)
        self._grid.setColumnStretch(1, 1)
        self._boxes: dict[str, QComboBox] = {}

    def show_classes(self, preview: Preview) -> None:
        """Rows for the classes of a file; what was chosen before in the same file stays."""
        kept = self.chosen() if preview is self._dock._shown else {}
        empty_layout(self._grid)
        own = self._dock.session.annotations.classes
        colours = _colours(preview.exchange)
        self._boxes = {}
        for group in preview.exchange.groups[:_MOST_CLASSES]:
            row = len(self._boxes)
            swatch = QToolButton()
            swatch.setIcon(swatch_icon(colours.get(group, NO_CLASS_COLOUR)))
            swatch.setIconSize(QSize(16, 16))
            swatch.setStyleSheet("background: transparent; border: none; padding: 0px;")
            name = ShortLabel()
            name.show_words(f"{group}  ({preview.counts.get(group, 0):,})")
            box = ShortBox(11, f"Which of your classes {group} is")
            for found in own:
                box.addItem(swatch_icon(found.colour), found.name, found.name)
            if all(found.name != group for found in own):
                box.addItem("New class" if len(group) > 10 else f"New class {group}", NEW)
            box.addItem("No class: leave out", LEFT_OUT)
            wanted = box.findData(kept.get(group, suggest_class(group, own)))
            box.setCurrentIndex(max(wanted, 0))
            self._boxes[group] = box
            for column, part in enumerate((swatch, name, box)):
                self._grid.addWidget(part, row, column)
        self.setVisible(bool(self._boxes))

    def chosen(self) -> dict[str, str]:
        """``{class in the file: own class, NEW or LEFT_OUT}``."""
        return {group: str(box.currentData()) for group, box in self._boxes.items()}

    def choose(self, group: str, own: str) -> None:
        """Choose a class for one of the file's."""
        box = self._boxes[group]
        box.setCurrentIndex(box.findData(own))


def _colours(exchange: Exchange) -> dict[str, str]:
    from stplm.palette import class_colours

    return {**class_colours(list(exchange.groups)), **exchange.colours}
