"""The Map dock: all cells by likeness, in the colours of the tissue; what is selected in one is selected in both."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from magicgui.widgets import CheckBox, Container, FloatSpinBox, SpinBox
from qtpy.QtCore import Qt, QTimer
from qtpy.QtGui import QColor, QCursor, QImage
from qtpy.QtWidgets import QFileDialog, QHBoxLayout, QMenu, QToolTip, QVBoxLayout, QWidget

from stplm import keys
from stplm.errors import ExportError
from stplm_napari.annotations import KEYS
from stplm_napari.layers import SELECTED_COLOUR
from stplm_napari.overlay import UNUSED, CellOverlay
from stplm_napari.tools import CLEAR, LABEL, SELECT, SELECT_MORE
from stplm_napari.widgets.annotate import SelectionBar
from stplm_napari.widgets.common import Dock, EmptyState, More, keep_choices
from stplm_napari.widgets.panels import ErrorPanel, JobPanel
from stplm_napari.widgets.style import button, ink, text

if TYPE_CHECKING:
    from napari.viewer import Viewer
    from numpy.typing import NDArray

_RECOLOUR_MS = 20
"""A repaint of the tissue comes in several steps; the map follows the last."""
_FAINT = (0.8, 0.3)
"""Grey of cells without a colour, on white and on black."""
_HOW = "Drag around cells to select them, Shift adds. A double click flies to the cell on the tissue."
_HOW_MOVING = "Drag to move the map, the wheel zooms. A double click flies to the cell on the tissue."


class MapWidget(Dock):
    """A map (UMAP) of all cells. Opening it lets every embedding be followed by its map."""

    def __init__(self, napari_viewer: Viewer) -> None:
        super().__init__(napari_viewer)
        from stplm_napari.widgets.mapview import MapView

        self.maker = self.workspace.mapping
        self.maker.by_itself = True
        self.empty = EmptyState("No section is open.", "Open a section", lambda: self.open_dock("Section"))
        self.not_embedded = EmptyState(
            "No cells embedded yet. The map puts cells with like vectors close together.",
            "Embed cells",
            lambda: self.workspace.embed(),
        )
        self.embedding = JobPanel(self.workspace.embedding, self)
        self.no_map = EmptyState("No map of these cells yet.", "Draw the map", self.draw)
        self.progress = JobPanel(self.maker.making, self, "Cancelled. There is no map.")
        self.error = ErrorPanel()
        self.view = MapView()
        self.how = text(kind="hint")
        self.arrows = text(kind="hint")
        self.placing = JobPanel(self.workspace.arrows.placing, self)
        self.selection = SelectionBar(self)
        self.fly = button("Show on tissue", self.fly_to_selected, tip="Moves the tissue to the selected cells")
        self.result = text(kind="hint")
        self._tools()
        self._more = More(self._settings())
        self.content = QWidget()
        layout = QVBoxLayout(self.content)
        layout.setContentsMargins(0, 0, 0, 0)
        layout.setSpacing(8)
        layout.addWidget(self.tools)
        layout.addWidget(self.view, 1)
        for part in (self.how, self.placing, self.arrows, self.selection, self.fly, self.result):
            layout.addWidget(part)
        states: tuple[QWidget, ...] = (self.empty, self.not_embedded, self.embedding, self.no_map, self.progress)
        for state in (*states, self.error):
            self.body.addWidget(state)
        self.body.addWidget(self.content, 1)
        self.body.addWidget(self._more)
        self.body.addStretch(0)
        self._shown: Any = None
        self._colours: Any = None
        self._recolouring = QTimer(self)
        self._recolouring.setSingleShot(True)
        self._recolouring.setInterval(_RECOLOUR_MS)
        self._recolouring.timeout.connect(self.recolour)
        self._listen()
        self.refresh()

    def _listen(self) -> None:
        session, workspace = self.session, self.workspace
        for signal in (session.section_opened, session.embedded, self.maker.changed, self.maker.making.changed):
            self.listen(signal, self.refresh)
        self.listen(workspace.embedding.changed, self.refresh)
        for signal in (session.painted, session.predicted, session.colouring_changed, workspace.drawing.changed):
            self.listen(signal, self._recolouring.start)
        for follow in (self._recolouring.start, self._show_arrows):
            self.listen(self._viewer.events.theme, follow)
        self.listen(session.selection_changed, self._show_selected)
        self.listen(workspace.arrows.changed, self._show_arrows)
        self.view.lassoed.connect(self._on_lasso)
        self.view.clicked.connect(self._on_click)
        self.view.double_clicked.connect(self._on_double_click)
        self.view.hovered.connect(self._on_hover)
        self.view.key_pressed.connect(self._on_key)
        self.view.asked_for_menu.connect(self._show_menu)

    # --- what is shown ---

    def refresh(self) -> None:
        """Make what is shown equal to the state."""
        session, cells = self.session, self.maker.current
        busy, embedding = self.maker.making.is_busy, self.workspace.embedding.is_busy
        self.empty.setVisible(not session.is_open)
        self.not_embedded.setVisible(session.is_open and not session.is_embedded and cells is None and not embedding)
        self.embedding.setVisible(self.embedding.isVisibleTo(self) and cells is None)
        self.no_map.setVisible(session.is_embedded and cells is None and not busy and not embedding)
        self.content.setVisible(cells is not None)
        self._more.setVisible(session.is_embedded)
        self.again.setEnabled(not busy)
        self.again.setText("Draw again" if cells is not None else "Draw the map")
        self.result.setText(cells.words if cells is not None else "")
        if cells is not self._shown:
            self._shown = cells
            if cells is not None:
                with self.view.one_draw():
                    self.view.show_places(cells.places)
                    if self.maker.view is not None:
                        self.view.visible = self.maker.view
                    self.recolour()
                    self._show_selected()
        self._show_arrows()
        self._show_tool()

    def recolour(self) -> None:
        """The colours of the tissue, on the map; what is hidden there is hidden here, what has none is a faint grey."""
        cells, session = self.maker.current, self.session
        if cells is None or cells is not self._shown:
            return
        dark = QColor(ink(self.theme)).lightness() > 128
        self.view.show_background("#000000" if dark else "#FFFFFF")
        codes, palette = self._codes()
        palette[palette[:, 3] == 0] = (*([_FAINT[dark]] * 3), 1.0)
        # A faint class is mixed with the background, as the tissue does with what lies below.
        palette[:, :3] = palette[:, :3] * palette[:, 3:] + (0.0 if dark else 1.0) * (1 - palette[:, 3:])
        palette[:, 3] = 1.0
        if session.colouring.hidden_now:
            is_hidden = np.ones(len(codes), bool)
            is_hidden[session.shown(np.arange(len(codes)))] = False
            codes[is_hidden] = UNUSED
            palette[UNUSED] = 0.0
        self.view.show_colours(codes, palette)

    def _codes(self) -> tuple[NDArray[np.uint8], NDArray[np.float32]]:
        canvas = self.workspace.canvas
        overlay = None if canvas is None else canvas.layers.overlay
        if overlay is None:  # cells without a tissue have the colours that it would have
            from stplm_napari.paint import paint

            overlay = CellOverlay([np.zeros((1, 1), np.int32)], np.arange(1, self.session.table.n_obs + 1))
            paint(overlay, self.session)
        return overlay.codes()

    def _show_selected(self) -> None:
        if self._shown is not None:
            colour = QColor(SELECTED_COLOUR)
            self.view.show_marked(self.session.selected, (colour.redF(), colour.greenF(), colour.blueF()))
        self.fly.setVisible(len(self.session.selected) > 0 and self.session.has_positions)

    def _show_arrows(self) -> None:
        arrows = self.workspace.arrows
        none = np.zeros((0, 2), np.float32)
        start, end = (none, none) if arrows.shown is None else (arrows.shown.start, arrows.shown.end)
        self.view.show_arrows(start, end, QColor(ink(self.theme)).name())
        self.arrows.setText(arrows.words)
        self.arrows.setVisible(bool(arrows.words))

    # --- the form ---

    def _tools(self) -> None:
        self.tools = QWidget()
        row = QHBoxLayout(self.tools)
        row.setContentsMargins(0, 0, 0, 0)
        row.setSpacing(6)
        self.lasso = button(
            "Lasso", partial(self._choose_tool, False), tip="A drag selects the cells that it encircles"
        )
        self.moving = button(
            "Move",
            partial(self._choose_tool, True),
            tip="A drag moves the map; so do Space held and the middle button at any time",
        )
        self.whole = button("Whole map", self._show_whole, tip="All cells in view (Home)")
        self.save = button("Save…", self._ask_to_save, tip="The map as it is seen, as a PNG picture")
        for part in (self.lasso, self.moving):
            part.setCheckable(True)
            row.addWidget(part)
        row.addStretch(1)
        row.addWidget(self.whole)
        row.addWidget(self.save)

    def _settings(self) -> QWidget:
        self.neighbours = SpinBox(
            name="neighbours",
            label="Neighbours",
            min=2,
            max=200,
            value=15,
            tooltip="Cells that each cell is to stay close to: few show detail, many the whole.",
        )
        self.min_dist = FloatSpinBox(
            name="min_dist",
            label="Least distance",
            min=0.0,
            max=1.0,
            step=0.05,
            value=0.1,
            tooltip="How close cells may lie, in the map's own unit: small packs like cells tightly.",
        )
        self.sample = SpinBox(
            name="sample",
            label="Fitted cells",
            min=1_000,
            max=1_000_000,
            step=10_000,
            value=50_000,
            tooltip="Cells, drawn from every cluster, that the map is fitted on. The others are put among those they "
            "are most like. More cells take longer.",
        )
        self.seed = SpinBox(
            name="seed",
            label="Seed",
            min=0,
            max=9999,
            value=0,
            tooltip="Start of the random numbers: another seed gives another map of the same likeness.",
        )
        self.auto = CheckBox(
            name="auto",
            text="Draw after each embedding",
            value=True,
            tooltip="Off: the map waits for its button.",
        )
        form: Container[Any] = Container(
            widgets=[self.neighbours, self.min_dist, self.sample, self.seed, self.auto], labels=True
        )
        form.margins = (0, 0, 0, 0)
        keep_choices(self.workspace, "map", form)
        self.maker.by_itself = self.auto.value
        self.auto.changed.connect(self._on_auto)
        made = QWidget()
        layout = QVBoxLayout(made)
        layout.setContentsMargins(0, 0, 0, 0)
        layout.addWidget(form.native)
        self.again = button("Draw again", self.draw, tip="With these settings")
        layout.addWidget(self.again, 0, Qt.AlignmentFlag.AlignLeft)
        return made

    def _on_auto(self, on: bool) -> None:
        self.maker.by_itself = on

    def draw(self) -> None:
        """Draw the map with the settings under More."""
        self.maker.draw(
            neighbours=self.neighbours.value,
            min_dist=round(self.min_dist.value, 3),
            sample=max(self.sample.value, self.neighbours.value + 1),
            seed=self.seed.value,
        )

    def _choose_tool(self, moves: bool) -> None:
        self.maker.moves_view = moves
        self._show_tool()

    def _show_tool(self) -> None:
        moves = self.maker.moves_view
        self.lasso.setChecked(not moves)
        self.moving.setChecked(moves)
        self.view.moves_view, self.view.lasso_colour = moves, SELECTED_COLOUR
        self.how.setText(_HOW_MOVING if moves else _HOW)

    def _show_whole(self) -> None:
        self.view.show_all()

    def _ask_to_save(self) -> None:
        start = str(self.workspace.exporter.folder() / "map.png")
        path, _ = QFileDialog.getSaveFileName(self, "Save the map", start, "PNG picture (*.png)")
        if path:
            self.save_picture(Path(path))

    def save_picture(self, path: Path) -> None:
        """Write the map as it is seen, as PNG."""
        picture = np.ascontiguousarray(self.view.picture()[..., :3])
        rows, columns, _ = picture.shape
        image = QImage(picture.data, columns, rows, 3 * columns, QImage.Format.Format_RGB888)
        if not image.save(str(path), "PNG"):  # type: ignore[call-overload]
            self.error.show_error(ExportError("The picture cannot be written.", where=path))

    # --- mouse and keys on the map ---

    def _cell_at(self, x: float, y: float) -> int:
        """Row of the visible cell there, -1 for none."""
        cells = self.maker.current
        row = -1 if cells is None else cells.picker.cell_at((x, y), self.view.reach)
        return row if row >= 0 and len(self.session.shown(np.array([row]))) else -1

    def _on_lasso(self, corners: NDArray[np.float64], more: bool) -> None:
        cells = self.maker.current
        if cells is None:
            return
        from stplm_napari.selection import in_polygon

        picker = cells.picker

        def find() -> NDArray[np.int64]:
            assert picker.grid is not None, "a map has a place for each cell"
            return in_polygon(picker.grid, corners)

        self.workspace.pick(find, SELECT_MORE if more else SELECT)

    def _on_click(self, x: float, y: float, more: bool) -> None:
        row = self._cell_at(x, y)
        if row >= 0:
            selected = self.session.selected
            self.session.select(np.setxor1d(selected, [row]) if more else [row])

    def _on_double_click(self, x: float, y: float) -> None:
        row = self._cell_at(x, y)
        if row >= 0 and self.workspace.canvas is not None:
            self.workspace.canvas.layers.fly_to(row)

    def fly_to_selected(self) -> None:
        """Move the tissue so that the selected cells are in view."""
        canvas, rows = self.workspace.canvas, self.session.selected
        if canvas is None or not len(rows):
            return
        xy = self.session.table.obsm[keys.SPATIAL][rows]
        canvas.layers.fly_to_box((*np.nanmin(xy, axis=0), *np.nanmax(xy, axis=0)))

    def _on_hover(self, x: float, y: float) -> None:
        row, canvas = self._cell_at(x, y), self.workspace.canvas
        if row < 0 or canvas is None:
            QToolTip.hideText()
        else:
            QToolTip.showText(QCursor.pos(), canvas.layers.describe(row), self.view)

    def _on_key(self, name: str, modifiers: set[str]) -> None:
        session, workspace = self.session, self.workspace
        if name in KEYS and not modifiers:
            chosen = next((c for c in session.classes if c.key == name), None)
            if chosen is not None:
                session.choose_class(chosen.name)
        elif name == "Enter":
            self._act(LABEL)
        elif name == "Escape":
            session.select([])
        elif name == "Home":
            self.view.show_all()
        elif name == "Z" and "Control" in modifiers:
            (workspace.redo if "Shift" in modifiers else workspace.undo)()
        elif name == "?":
            workspace.show_help()

    def _act(self, does: str, class_name: str = "") -> None:
        if len(self.session.selected):
            self.workspace.try_to_act_on(self.session.selected, does, class_name)

    def _show_menu(self, place: Any) -> None:
        menu = self.menu()
        menu.exec(place)

    def menu(self) -> QMenu:
        """What can be done with the selected cells."""
        n, menu = len(self.session.selected), QMenu(self)
        menu.addSection(f"{n:,} selected cell{'' if n == 1 else 's'}")
        for each in self.session.classes:
            menu.addAction(f"Label {each.name}", partial(self._act, LABEL, each.name)).setEnabled(n > 0)
        menu.addSeparator()
        menu.addAction("Clear their labels", partial(self._act, CLEAR)).setEnabled(n > 0)
        menu.addAction("Show them on the tissue", self.fly_to_selected).setEnabled(n > 0)
        menu.addAction("Deselect", partial(self.session.select, [])).setEnabled(n > 0)
        return menu

    def hideEvent(self, event: Any) -> None:
        """Qt's: the next dock shows the same part of the map."""
        if self._shown is not None:
            self.maker.view = self.view.visible
        super().hideEvent(event)
