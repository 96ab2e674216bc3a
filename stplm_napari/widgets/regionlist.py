"""The list of drawn regions: where they are, what they are called, what to do with their cells."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any

from qtpy.QtCore import QPoint, QSize, Qt
from qtpy.QtWidgets import QFrame, QHBoxLayout, QMenu, QToolButton, QVBoxLayout, QWidget

from stplm.errors import StplmError
from stplm_napari.region_outlines import NO_CLASS_COLOUR
from stplm_napari.regions import Region
from stplm_napari.tools import CLEAR, LABEL, SELECT
from stplm_napari.widgets.icons import eye_icon, swatch_icon
from stplm_napari.widgets.regionform import ask_region
from stplm_napari.widgets.style import ink, text

if TYPE_CHECKING:
    from stplm_napari.widgets.common import Dock


class RegionList(QWidget):
    """One row a region; nothing while there are none. A click flies there, a double click edits."""

    def __init__(self, dock: Dock) -> None:
        super().__init__()
        self._dock, self._session = dock, dock.session
        self._layout = QVBoxLayout(self)
        self._layout.setContentsMargins(0, 0, 0, 0)
        self._layout.setSpacing(1)
        head = QHBoxLayout()
        head.setContentsMargins(4, 0, 0, 0)
        head.setSpacing(7)
        self.eye = QToolButton()
        self.eye.setIconSize(QSize(16, 16))
        self.eye.setStyleSheet("background: transparent; border: none; padding: 0px;")
        self.eye.setToolTip("Show or hide the outlines of the regions")
        self.eye.setFocusPolicy(Qt.FocusPolicy.NoFocus)
        self.eye.clicked.connect(self._toggle_eye)
        head.addWidget(self.eye)
        head.addWidget(text("Regions", "hint", wrap=False), 1)
        self._layout.addLayout(head)
        self.rows: dict[str, RegionRow] = {}
        session = self._session
        theme = dock.workspace.viewer.events.theme
        for signal in (session.section_opened, session.regions_changed, session.classes_changed, theme):
            dock.listen(signal, self.rebuild)
        self.rebuild()

    def rebuild(self) -> None:
        """Rows for the regions there are now."""
        for row in self.rows.values():
            self._layout.removeWidget(row)
            row.deleteLater()
        regions = self._session.annotations.regions if self._session.is_open else ()
        colours = {c.name: c.colour for c in self._session.annotations.classes}
        self.rows = {r.name: RegionRow(r, colours.get(r.class_name, NO_CLASS_COLOUR), self._dock) for r in regions}
        for row in self.rows.values():
            self._layout.addWidget(row)
        self.eye.setIcon(eye_icon(self._session.regions_shown, ink(self._dock.theme)))
        self.setVisible(bool(regions))

    def _toggle_eye(self) -> None:
        self._session.show_regions(not self._session.regions_shown)


class RegionRow(QFrame):
    """One region."""

    def __init__(self, shown: Region, colour: str, dock: Dock) -> None:
        super().__init__()
        self.shown, self._workspace, self._session = shown, dock.workspace, dock.session
        self.setProperty("kind", "row")
        self.setCursor(Qt.CursorShape.PointingHandCursor)
        self.setContextMenuPolicy(Qt.ContextMenuPolicy.CustomContextMenu)
        self.customContextMenuRequested.connect(lambda at: self.menu().popup(self.mapToGlobal(at)))
        about = [shown.class_name or "no class", shown.note, f"drawn by {shown.by}" if shown.by else "", shown.at]
        self.setToolTip("\n".join(words for words in about if words))
        row = QHBoxLayout(self)
        row.setContentsMargins(4, 3, 6, 3)
        row.setSpacing(7)
        swatch = QToolButton()
        swatch.setIcon(swatch_icon(colour))
        swatch.setIconSize(QSize(16, 16))
        swatch.setAttribute(Qt.WidgetAttribute.WA_TransparentForMouseEvents)
        row.addWidget(swatch)
        self.name = text(shown.name, wrap=False)
        self.name.setMinimumWidth(60)
        row.addWidget(self.name, 1)
        if shown.note:
            row.addWidget(text(_short(shown.note), "hint", wrap=False))
        row.addWidget(text(area_words(shown.area_um2), "hint", wrap=False))
        self.more = QToolButton()
        self.more.setText("⋯")
        self.more.setToolTip("Rename, label or select its cells, remove")
        self.more.setFocusPolicy(Qt.FocusPolicy.NoFocus)
        self.more.clicked.connect(lambda: self.menu().popup(self.more.mapToGlobal(QPoint(0, self.more.height()))))
        row.addWidget(self.more)

    def menu(self) -> QMenu:
        """What can be done with the region."""
        menu, name = QMenu(self), self.shown.name
        menu.setAttribute(Qt.WidgetAttribute.WA_DeleteOnClose)
        menu.addAction("Fly to it", self.fly_to)
        menu.addAction("Edit…", self.edit)
        menu.addSeparator()
        label = self.shown.class_name or self._session.active_class
        if label:
            menu.addAction(f"Label its cells {label}", partial(self._act, LABEL))
        menu.addAction("Clear the labels of its cells", partial(self._act, CLEAR))
        menu.addAction("Select its cells", partial(self._act, SELECT))
        menu.addSeparator()
        menu.addAction("Remove", partial(self._try, partial(self._session.annotations.remove_region, name)))
        return menu

    def fly_to(self) -> None:
        """Show the region."""
        if self._workspace.canvas is not None:
            self._workspace.canvas.layers.fly_to_box(self.shown.bounds)

    def edit(self) -> None:
        """Ask for name, class and note."""
        old = self.shown
        new = ask_region(self, old, [c.name for c in self._session.annotations.classes])
        if new is not None:
            what = {"new_name": new.name, "class_name": new.class_name, "note": new.note}
            was = {"new_name": old.name, "class_name": old.class_name, "note": old.note}
            changed = {k: v for k, v in what.items() if v != was[k]}
            if changed:
                self._try(partial(self._session.annotations.change_region, old.name, **changed))

    def mousePressEvent(self, event: Any) -> None:
        """Qt's."""
        if event.button() == Qt.MouseButton.LeftButton:
            self.fly_to()
        super().mousePressEvent(event)

    def mouseDoubleClickEvent(self, event: Any) -> None:
        """Qt's."""
        self.edit()

    def _act(self, does: str) -> None:
        self._workspace.act_on_region(self.shown.name, does)

    def _try(self, action: Any) -> None:
        try:
            action()
        except StplmError as error:
            self._session.failed.emit(error)


def area_words(area_um2: float) -> str:
    """An area in the unit that suits it."""
    return f"{area_um2 / 1e6:.2f} mm²" if area_um2 >= 1e5 else f"{area_um2:,.0f} µm²"


def _short(note: str, most: int = 18) -> str:
    first = note.splitlines()[0]
    return first if len(first) <= most else first[: most - 1] + "…"
