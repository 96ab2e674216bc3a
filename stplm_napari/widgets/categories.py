"""The legend of colours that are no classes (clusters, columns, comparisons): eye, colour, name, number of cells."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING, Any

from qtpy.QtCore import QPoint, QSize, Qt
from qtpy.QtGui import QColor
from qtpy.QtWidgets import QApplication, QFrame, QHBoxLayout, QMenu, QToolButton, QVBoxLayout, QWidget

from stplm_napari.colourings import Categories
from stplm_napari.tools import CLEAR, LABEL, SELECT
from stplm_napari.widgets.icons import eye_icon, swatch_icon
from stplm_napari.widgets.style import ink, text

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from stplm_napari.widgets.common import Dock

_MOST = 60
"""Rows of a list beyond which nobody reads it."""


class CategoryList(QWidget):
    """One row a category of what the tissue is coloured by; nothing while that is classes or numbers."""

    def __init__(self, dock: Dock) -> None:
        super().__init__()
        self._dock, self._session = dock, dock.session
        self._layout = QVBoxLayout(self)
        self._layout.setContentsMargins(0, 0, 0, 0)
        self._layout.setSpacing(1)
        self.rows: dict[str, CategoryRow] = {}
        self.rest = text(kind="hint")
        self._layout.addWidget(self.rest)
        self._made_of: Any = None
        session = self._session
        for signal in (session.section_opened, session.embedded, session.predicted, session.colouring_changed):
            dock.listen(signal, self.refresh)
        for signal in (session.labels_changed, session.sources_changed, dock.workspace.viewer.events.theme):
            dock.listen(signal, self.refresh)
        self.refresh()

    def refresh(self) -> None:
        """Make what is shown equal to the state."""
        session = self._session
        shown = session.sources.of(session.colouring.by) if session.is_open else None
        mine = isinstance(shown, Categories) and not session.colouring.is_of_classes and len(shown.names) > 0
        self.setVisible(mine)
        if not mine or not isinstance(shown, Categories):
            return
        made_of = (tuple(shown.names), tuple(shown.colours), self._dock.theme)
        if made_of != self._made_of:
            self._made_of = made_of
            for row in self.rows.values():
                self._layout.removeWidget(row)
                row.deleteLater()
            named = list(zip(shown.names, shown.colours, strict=True))[:_MOST]
            self.rows = {n: CategoryRow(n, c, self._dock, ink(self._dock.theme)) for n, c in named}
            for row in self.rows.values():
                self._layout.insertWidget(self._layout.count() - 1, row)
        counts = shown.counts()
        for name, row in self.rows.items():
            row.refresh(counts[name], name not in session.colouring.hidden_now)
        left = len(shown.names) - len(self.rows)
        self.rest.setText(f"and {left} more")
        self.rest.setVisible(left > 0)


class CategoryRow(QFrame):
    """One category."""

    def __init__(self, name: str, colour: str, dock: Dock, ink: QColor) -> None:
        super().__init__()
        self._name, self._dock, self._session, self._ink = name, dock, dock.session, ink
        self._seen: bool | None = None
        self.setProperty("kind", "row")
        self.setContextMenuPolicy(Qt.ContextMenuPolicy.CustomContextMenu)
        self.customContextMenuRequested.connect(self._menu)
        row = QHBoxLayout(self)
        row.setContentsMargins(4, 3, 6, 3)
        row.setSpacing(7)
        self.eye = QToolButton()
        self.eye.setIconSize(QSize(16, 16))
        self.eye.setToolTip("Show or hide these cells; with Alt, show only these, and again all")
        self.eye.clicked.connect(self._toggle_eye)
        swatch = QToolButton()
        swatch.setIcon(swatch_icon(colour))
        swatch.setIconSize(QSize(16, 16))
        swatch.setEnabled(True)
        swatch.setToolTip(colour)
        words = text(name, wrap=False, tip=name)
        words.setMinimumWidth(60)
        self.cells = text(wrap=False)
        self.cells.setAlignment(Qt.AlignmentFlag.AlignRight | Qt.AlignmentFlag.AlignVCenter)
        row.addWidget(self.eye)
        row.addWidget(swatch)
        row.addWidget(words, 1)
        row.addWidget(self.cells)

    def refresh(self, n: int, visible: bool) -> None:
        """Show count and eye."""
        self.cells.setText(f"{n:,}")
        if visible != self._seen:
            self._seen = visible
            self.eye.setIcon(eye_icon(visible, self._ink))

    def _toggle_eye(self) -> None:
        if is_solo_click():
            self._solo()
        else:
            how = self._session.colouring
            self._session.colour(**how.hiding(how.hidden_now ^ {self._name}))

    def _solo(self) -> None:
        shown = self._session.sources.of(self._session.colouring.by)
        if isinstance(shown, Categories):
            self._session.colour(**self._session.colouring.solo(self._name, shown.names))

    def _menu(self, at: QPoint) -> None:
        menu = self.menu()
        menu.popup(self.mapToGlobal(at))

    def menu(self) -> QMenu:
        """What can be done with a category."""
        menu = QMenu(self)
        menu.addAction("Show only these cells", self._solo)
        if how := self._session.colouring.hidden_now:
            menu.addAction(f"Show all ({len(how)} hidden)", partial(self._session.colour, **self._none_hidden()))
        act_menu(menu, self._dock, self._rows, "these cells")
        return menu

    def _none_hidden(self) -> dict[str, Any]:
        return self._session.colouring.hiding(frozenset())

    def _rows(self) -> NDArray[np.int64]:
        shown = self._session.sources.of(self._session.colouring.by)
        assert isinstance(shown, Categories)
        return shown.rows(self._name)


def act_menu(menu: QMenu, dock: Dock, rows: Callable[[], NDArray[np.int64]], what: str) -> None:
    """Entries that label, select or clear all cells of a row of a legend, the hidden ones left out."""
    workspace, name = dock.workspace, dock.session.active_class

    def act(does: str) -> None:
        workspace.try_to_act_on(rows(), does)

    menu.addSeparator()
    if name:
        menu.addAction(f"Label all {what} {name}", partial(act, LABEL))
    menu.addAction(f"Select all {what}", partial(act, SELECT))
    menu.addAction(f"Clear the labels of all {what}", partial(act, CLEAR))
    menu.addSeparator()


def is_solo_click() -> bool:
    """Whether Alt is down."""
    return bool(QApplication.keyboardModifiers() & Qt.KeyboardModifier.AltModifier)
