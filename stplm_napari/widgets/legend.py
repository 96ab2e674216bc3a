"""The class list that is the legend too: eye, colour, name, key, tumour flag, own labels and predicted cells."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np
from qtpy.QtCore import QPoint, QSize, Qt
from qtpy.QtGui import QColor
from qtpy.QtWidgets import QColorDialog, QFrame, QHBoxLayout, QLabel, QMenu, QToolButton, QVBoxLayout, QWidget

from stplm.errors import StplmError
from stplm_napari.changes import CellClass
from stplm_napari.colourings import CLASS, LABEL, Categories
from stplm_napari.session import Session
from stplm_napari.widgets.categories import act_menu, is_solo_click
from stplm_napari.widgets.classform import ask_class
from stplm_napari.widgets.icons import eye_icon, swatch_icon
from stplm_napari.widgets.style import ink, set_property, text

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from stplm_napari.widgets.common import Dock

_KEY = 18
_SWATCH = 16


class Legend(QWidget):
    """One row a class. A click chooses the class that clicks on the tissue give; a right click edits it."""

    def __init__(self, dock: Dock) -> None:
        super().__init__()
        self._dock, self._session = dock, dock.session
        self._layout = QVBoxLayout(self)
        self._layout.setContentsMargins(0, 0, 0, 0)
        self._layout.setSpacing(1)
        self.head, self._heads = _header()
        self._layout.addWidget(self.head)
        self.rows: dict[str, ClassRow] = {}
        self._theme = ""
        session = self._session
        theme = dock.workspace.viewer.events.theme
        for signal in (session.section_opened, session.classes_changed, session.predicted, theme):
            dock.listen(signal, self.rebuild)
        for signal in (session.labels_changed, session.colouring_changed, session.active_class_changed):
            dock.listen(signal, self.refresh)
        self.rebuild()

    def rebuild(self) -> None:
        """Rows for the classes there are now."""
        classes = self._session.classes if self._session.is_open else ()
        if [row.shown for row in self.rows.values()] != list(classes) or self._theme != self._dock.theme:
            self._theme = self._dock.theme
            for row in self.rows.values():
                self._layout.removeWidget(row)
                row.deleteLater()
            self.rows = {c.name: ClassRow(c, self._dock, ink(self._dock.theme)) for c in classes}
            for row in self.rows.values():
                self._layout.addWidget(row)
        self.refresh()

    def refresh(self) -> None:
        """Counts, eyes and the chosen class."""
        session = self._session
        if not session.is_open:
            return
        own, predicted = session.annotations.counts(), session.predicted_counts()
        for name, row in self.rows.items():
            row.refresh(own.get(name, 0), predicted.get(name) if session.is_predicted else None)
        self._align(f"{session.table.n_obs:,}")

    def _align(self, widest: str) -> None:
        """Columns as wide as the largest number that may stand in them."""
        metrics = self.fontMetrics()
        for i, head in enumerate(self._heads):
            width = max(map(metrics.horizontalAdvance, (head.text(), widest if i else "9,999"))) + 8
            for label in (head, *((row.own, row.cells)[i] for row in self.rows.values())):
                label.setFixedWidth(width)


class ClassRow(QFrame):
    """One class."""

    def __init__(self, shown: CellClass, dock: Dock, ink: QColor) -> None:
        super().__init__()
        self.shown, self._dock, self._ink = shown, dock, ink
        self._session: Session = dock.session
        self._seen: bool | None = None
        self.setProperty("kind", "row")
        self.setCursor(Qt.CursorShape.PointingHandCursor)
        self.setContextMenuPolicy(Qt.ContextMenuPolicy.CustomContextMenu)
        self.customContextMenuRequested.connect(self._menu)
        row = QHBoxLayout(self)
        row.setContentsMargins(4, 3, 6, 3)
        row.setSpacing(7)
        self.eye = QToolButton()
        self.eye.setIconSize(QSize(16, 16))
        self.eye.setToolTip("Show or hide the cells of this class; with Alt, show only this one, and again all")
        self.eye.clicked.connect(self._toggle_eye)
        self.swatch = QToolButton()
        self.swatch.setIcon(swatch_icon(shown.colour))
        self.swatch.setIconSize(QSize(_SWATCH, _SWATCH))
        self.swatch.setToolTip(f"Colour {shown.colour}; click to change it")
        self.swatch.clicked.connect(self._choose_colour)
        self.key = text(shown.key, "key" if shown.key else "nokey", wrap=False)
        self.key.setAlignment(Qt.AlignmentFlag.AlignCenter)
        self.key.setFixedSize(_KEY, _KEY)
        self.key.setToolTip(f"Press {shown.key} to choose this class" if shown.key else "")
        self.name = text(shown.name, wrap=False)
        self.name.setMinimumWidth(60)
        self.name.setToolTip(shown.name)
        self.tumour = text("T" if shown.tumour else "", "tumour" if shown.tumour else "nokey", wrap=False)
        self.tumour.setAlignment(Qt.AlignmentFlag.AlignCenter)
        self.tumour.setFixedSize(14, 14)
        self.tumour.setVisible(shown.tumour)
        self.tumour.setToolTip("Counts as tumour in the tumour probability" if shown.tumour else "")
        self.own, self.cells = _count(), _count()
        for part in (self.eye, self.swatch, self.key):
            row.addWidget(part)
        row.addWidget(self.name, 1)
        for part in (self.tumour, self.own, self.cells):
            row.addWidget(part)

    def refresh(self, own: int, predicted: int | None) -> None:
        """Show counts, eye, and whether this is the chosen class."""
        self.own.setText(f"{own:,}" if own else "–")
        self.cells.setText("–" if predicted is None else f"{predicted:,}")
        if (seen := self.shown.name not in self._session.colouring.hidden) != self._seen:
            self._seen = seen
            self.eye.setIcon(eye_icon(seen, self._ink))
        set_property(self, "active", "true" if self._session.active_class == self.shown.name else "false")

    def mousePressEvent(self, event: Any) -> None:
        """Qt's."""
        if event.button() == Qt.MouseButton.LeftButton:
            self._session.choose_class(self.shown.name)
        super().mousePressEvent(event)

    def mouseDoubleClickEvent(self, event: Any) -> None:
        """Qt's."""
        self.edit()

    # --- actions ---

    def edit(self) -> None:
        """Ask for name, colour, key and tumour flag."""
        self._own()
        found = self._session.annotations.get(self.shown.name)
        if found is not None and (new := ask_class(self, found, f"Edit {found.name}")) is not None:
            old = {"new_name": found.name, "colour": found.colour, "key": found.key, "tumour": found.tumour}
            what = {"new_name": new.name, "colour": new.colour, "key": new.key, "tumour": new.tumour}
            changed = {k: v for k, v in what.items() if v != old[k]}
            if changed:
                self._try(partial(self._session.annotations.change_class, found.name, **changed))

    def _toggle_eye(self) -> None:
        if is_solo_click():
            self._show_only()
        else:
            self._session.colour(hidden=self._session.colouring.hidden ^ {self.shown.name})

    def _choose_colour(self) -> None:
        colour = QColorDialog.getColor(QColor(self.shown.colour), self, f"Colour of {self.shown.name}")
        if colour.isValid():
            self._own()
            self._try(partial(self._session.annotations.change_class, self.shown.name, colour=colour.name().upper()))

    def _menu(self, at: QPoint) -> None:
        session, name = self._session, self.shown.name
        menu = QMenu(self)
        menu.addAction("Edit…", self.edit)
        menu.addAction("Show only this class", self._show_only)
        if session.colouring.hidden:
            menu.addAction("Show all classes", partial(session.colour, hidden=frozenset()))
        act_menu(menu, self._dock, self._rows, f"cells of {name}")
        faint = menu.addMenu("Opacity")
        for percent in (100, 75, 50, 25):
            faint.addAction(f"{percent} %", partial(self._set_opacity, percent / 100))
        if session.annotations.get(name) is not None:
            flag = menu.addAction("Counts as tumour")
            flag.setCheckable(True)
            flag.setChecked(self.shown.tumour)
            change = session.annotations.change_class
            flag.toggled.connect(lambda on: self._try(partial(change, name, tumour=on)))
            others = [c.name for c in session.annotations.classes if c.name != name]
            if others:
                merge = menu.addMenu("Merge into")
                for other in others:
                    merge.addAction(other, partial(self._try, partial(session.annotations.merge_classes, name, other)))
            menu.addSeparator()
            n = session.annotations.counts().get(name, 0)
            words = f"Remove with its {n:,} labels" if n else "Remove"
            menu.addAction(words, partial(self._try, partial(session.annotations.remove_class, name)))
        menu.popup(self.mapToGlobal(at))

    def _show_only(self) -> None:
        """Only this class; a second time, all."""
        others = frozenset(c.name for c in self._session.classes) - {self.shown.name}
        self._session.colour(hidden=frozenset() if self._session.colouring.hidden == others else others)

    def _rows(self) -> NDArray[np.int64]:
        """Cells of this class: as the tissue shows them, else as predicted or labelled."""
        sources, how = self._session.sources, self._session.colouring
        shown = sources.of(how.by if how.is_of_classes else CLASS if self._session.is_predicted else LABEL)
        return shown.rows(self.shown.name) if isinstance(shown, Categories) else np.zeros(0, np.int64)

    def _set_opacity(self, opacity: float) -> None:
        self._session.colour(opacity={**self._session.colouring.opacity, self.shown.name: opacity})

    def _own(self) -> None:
        self._try(partial(self._session.adopt, self.shown.name))

    def _try(self, action: Any) -> None:
        try:
            action()
        except StplmError as error:
            self._session.failed.emit(error)


def _header() -> tuple[QWidget, list[QLabel]]:
    """The line above the rows, and the names of its two columns of numbers."""
    made = QWidget()
    row = QHBoxLayout(made)
    row.setContentsMargins(5, 0, 7, 0)
    row.setSpacing(7)
    row.addWidget(text("Class", "hint", wrap=False), 1)
    heads, columns = (("Labels", "Cells that you labelled"), ("Cells", "Cells that the model calls so")), []
    for words, tip in heads:
        label = _count(words)
        label.setToolTip(tip)
        label.setProperty("kind", "hint")
        row.addWidget(label)
        columns.append(label)
    return made, columns


def _count(words: str = "") -> QLabel:
    label = text(words, wrap=False)
    label.setAlignment(Qt.AlignmentFlag.AlignRight | Qt.AlignmentFlag.AlignVCenter)
    return label
