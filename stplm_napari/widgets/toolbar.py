"""The tools of the Annotate dock: how a shape is drawn, what becomes of it, and all cells of a kind."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any

from qtpy.QtCore import QSize, Qt
from qtpy.QtWidgets import QDoubleSpinBox, QFrame, QHBoxLayout, QMenu, QToolButton, QVBoxLayout, QWidget

from stplm import keys
from stplm_napari.shortcuts import MODE_KEYS, TOOL_KEYS
from stplm_napari.tools import (
    BRUSH,
    CLEAR,
    CLICK,
    LABEL,
    LASSO,
    MAX_RADIUS_UM,
    MIN_RADIUS_UM,
    POLYGON,
    REGION,
    SELECT,
)
from stplm_napari.widgets.icons import tool_icon
from stplm_napari.widgets.style import ink, text

if TYPE_CHECKING:
    from stplm_napari.widgets.common import Dock

_SHAPE_TIPS = {
    CLICK: "Single cells: click them",
    LASSO: "Lasso: drag around cells",
    POLYGON: "Polygon: click its corners; a double click or Enter closes it, Esc drops it",
    BRUSH: "Brush: drag over cells; [ and ] change its size",
}
_MODE_TIPS = {
    CLEAR: "Clear: take labels away instead of giving them",
    SELECT: "Select: mark cells, to label them later",
    REGION: "Region: what is drawn becomes a named region of tissue",
}
_MOST = 60
"""Entries of a menu beyond which nobody reads it."""


class ToolBar(QWidget):
    """Shows the session's tool and changes it."""

    def __init__(self, dock: Dock) -> None:
        super().__init__()
        self._dock, self._session, self._workspace = dock, dock.session, dock.workspace
        self._theme = ""
        outer = QVBoxLayout(self)
        outer.setContentsMargins(0, 0, 0, 0)
        outer.setSpacing(6)
        row = QHBoxLayout()
        row.setSpacing(2)
        outer.addLayout(row)
        self.shapes = {shape: _button(tip, TOOL_KEYS[shape]) for shape, tip in _SHAPE_TIPS.items()}
        self.modes = {does: _button(tip, MODE_KEYS[does]) for does, tip in _MODE_TIPS.items()}
        for shape, made in self.shapes.items():
            made.clicked.connect(partial(self._use_shape, shape))
            row.addWidget(made)
        row.addWidget(_divider())
        for does, made in self.modes.items():
            made.clicked.connect(partial(self._use_mode, does))
            row.addWidget(made)
        row.addWidget(_divider())
        self.all_of = QToolButton()
        self.all_of.setText("All of")
        self.all_of.setProperty("kind", "tool")
        self.all_of.setFixedHeight(30)
        self.all_of.setToolTip("Label (or clear, or select) all cells of a cluster, a predicted class or a region")
        self.all_of.setPopupMode(QToolButton.ToolButtonPopupMode.InstantPopup)
        self.all_of.setFocusPolicy(Qt.FocusPolicy.NoFocus)
        self.menu = QMenu(self.all_of)
        self.menu.aboutToShow.connect(self.fill_menu)
        self.all_of.setMenu(self.menu)
        row.addWidget(self.all_of)
        row.addStretch(1)
        self.help = _button("The keys that work on the tissue", "?")
        self.help.setCheckable(False)
        self.help.setText("?")
        self.help.clicked.connect(self._workspace.show_help)
        row.addWidget(self.help)

        self.brush = QWidget()
        line = QHBoxLayout(self.brush)
        line.setContentsMargins(0, 0, 0, 0)
        line.addWidget(text("Radius of the brush", "name", wrap=False))
        self.radius = QDoubleSpinBox()
        self.radius.setRange(MIN_RADIUS_UM, MAX_RADIUS_UM)
        self.radius.setDecimals(1)
        self.radius.setSuffix(" µm")
        self.radius.setToolTip("In µm of tissue, whatever the zoom; [ and ] change it")
        self.radius.setKeyboardTracking(False)
        self.radius.setFocusPolicy(Qt.FocusPolicy.ClickFocus)
        self.radius.valueChanged.connect(lambda value: self._session.use(radius_um=value))
        self.radius.editingFinished.connect(self.radius.clearFocus)
        line.addWidget(self.radius)
        line.addStretch(1)
        outer.addWidget(self.brush)
        dock.listen(self._session.tool_changed, self.refresh)
        dock.listen(self._workspace.viewer.events.theme, self.refresh)
        self.refresh()

    def refresh(self) -> None:
        """Show the tool in hand."""
        tool = self._session.tool
        if self._theme != self._dock.theme:
            self._theme = self._dock.theme
            for name, made in (*self.shapes.items(), *self.modes.items()):
                made.setIcon(tool_icon(name, ink(self._theme)))
        for shape, made in self.shapes.items():
            made.setChecked(shape == tool.shape)
        for does, made in self.modes.items():
            made.setChecked(does == tool.does)
        self.brush.setVisible(tool.shape == BRUSH)
        if self.radius.value() != tool.radius_um:
            self.radius.blockSignals(True)
            self.radius.setValue(tool.radius_um)
            self.radius.blockSignals(False)

    def fill_menu(self) -> None:
        """The clusters, predicted classes and regions there are now."""
        session, menu = self._session, self.menu
        menu.clear()
        does = LABEL if session.tool.does == REGION else session.tool.does
        verb = {CLEAR: "Clear the labels of", SELECT: "Select"}.get(does, f"Label {session.active_class}:")
        menu.setTitle(verb)
        menu.addSection(f"{verb} all cells of …")
        for title, column in (("Cluster", keys.CLUSTER), ("Predicted class", keys.CLASS)):
            if session.is_open and column in session.table.obs:
                part = menu.addMenu(title)
                counts = session.table.obs[column].value_counts()
                for value in list(session.table.obs[column].cat.categories)[:_MOST]:
                    action = part.addAction(f"{value}  ({counts.get(value, 0):,})")
                    action.triggered.connect(partial(self._act_on_group, column, str(value), does))
        if session.annotations.regions:
            part = menu.addMenu("Region")
            for region in session.annotations.regions[:_MOST]:
                action = part.addAction(region.name)
                action.triggered.connect(partial(self._act_on_region, region.name, does))
        if len(session.selected):
            words = f"The {len(session.selected):,} selected cells"
            menu.addAction(words).triggered.connect(partial(self._act_on_selected, does))
        if len(menu.actions()) == 1:
            menu.addAction("There are no clusters, classes or regions yet").setEnabled(False)

    def _act_on_group(self, column: str, value: str, does: str, *_: Any) -> None:
        self._workspace.try_to_act_on(self._session.rows_where(column, value), does)

    def _act_on_region(self, name: str, does: str, *_: Any) -> None:
        self._workspace.act_on_region(name, does, self._session.active_class)

    def _act_on_selected(self, does: str, *_: Any) -> None:
        self._workspace.try_to_act_on(self._session.selected, does)

    def _use_shape(self, shape: str, *_: Any) -> None:
        self._session.use(shape=shape)
        self.refresh()

    def _use_mode(self, does: str, on: bool) -> None:
        tool = self._session.tool
        # A single click cannot outline a region: the lasso is the nearest tool that can.
        shape = LASSO if on and does == REGION and tool.shape == CLICK else tool.shape
        self._session.use(does=does if on else LABEL, shape=shape)
        self.refresh()


def _button(tip: str, key: str) -> QToolButton:
    made = QToolButton()
    made.setProperty("kind", "tool")
    made.setCheckable(True)
    made.setIconSize(QSize(20, 20))
    made.setFixedSize(30, 30)
    made.setToolTip(f"{tip}  ({key})")
    made.setCursor(Qt.CursorShape.PointingHandCursor)
    made.setFocusPolicy(Qt.FocusPolicy.NoFocus)
    return made


def _divider() -> QFrame:
    made = QFrame()
    made.setFixedSize(3, 24)
    return made
