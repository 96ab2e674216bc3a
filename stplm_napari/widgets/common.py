"""The parts that all docks share: the dock itself, empty state, facts, folded settings."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Any

from qtpy.QtCore import QEvent, QObject, QSize, Qt, QTimer
from qtpy.QtWidgets import (
    QComboBox,
    QDockWidget,
    QFrame,
    QGridLayout,
    QLabel,
    QMainWindow,
    QScrollArea,
    QTabBar,
    QToolButton,
    QVBoxLayout,
    QWidget,
)

from stplm_napari.facts import Fact
from stplm_napari.widgets.style import GAP, MARGIN, button, empty_layout, style_sheet, text
from stplm_napari.workspace import Workspace

if TYPE_CHECKING:
    from magicgui.widgets import ComboBox, Container
    from napari.viewer import Viewer

PLUGIN = "stplm-napari"
MIN_WIDTH = 350


class Dock(QWidget):
    """A dock widget: shows the state of the workspace, holds none of its own.

    Subclasses build their parts into ``self.body``, name the signals that concern them with :meth:`listen`, and make
    what is shown equal to the state in :meth:`refresh`.
    """

    title = ""
    """On the tab, where it is not the class's name."""

    def __init__(self, napari_viewer: Viewer) -> None:
        super().__init__()
        self.workspace = Workspace.of(napari_viewer)
        self.session = self.workspace.session
        self._viewer = self.workspace.viewer
        inner = QWidget()
        self.body = QVBoxLayout(inner)
        self.body.setContentsMargins(MARGIN, MARGIN, MARGIN, MARGIN)
        self.body.setSpacing(GAP)
        scroll = _Scroll(inner)
        outer = QVBoxLayout(self)
        outer.setContentsMargins(0, 0, 0, 0)
        outer.addWidget(scroll)
        self.setMinimumWidth(MIN_WIDTH)
        self._placed = False
        self._restyle()
        self._connections: list[Callable[[], Any]] = []
        self.listen(self._viewer.events.theme, self._restyle)
        connections = self._connections
        self.destroyed.connect(lambda: [disconnect() for disconnect in connections])

    @property
    def theme(self) -> str:
        """Name of napari's theme."""
        return str(self._viewer.theme)

    def showEvent(self, event: Any) -> None:
        """Qt's. The first time, the dock joins our other docks as a tab."""
        super().showEvent(event)
        if not self._placed:
            self._placed = True
            QTimer.singleShot(0, self._join_tabs)
            if (dock := _dock_of(self)) is not None:
                dock.visibilityChanged.connect(self.in_front)

    def changeEvent(self, event: Any) -> None:
        """Qt's. napari takes a closed dock's widget out and keeps it: it would go on listening, beside the next one."""
        super().changeEvent(event)
        if event.type() == QEvent.Type.ParentChange and self._placed and self.parent() is None:
            self.deleteLater()

    def in_front(self, on: bool) -> None:
        """Called when the dock comes to the front of its tabs, and when it goes behind or is closed."""

    def _join_tabs(self) -> None:
        dock = _dock_of(self)
        if dock is None:
            return
        dock.setWindowTitle(self.title or type(self).__name__.removesuffix("Widget"))
        window = dock.parent()
        if not isinstance(window, QMainWindow):
            return
        for other in window.findChildren(Dock):
            place = _dock_of(other)
            if place not in (None, dock) and other.isVisible() and not place.isFloating():
                if place not in window.tabifiedDockWidgets(dock):
                    window.tabifyDockWidget(place, dock)
                dock.raise_()
                _readable_tabs(window)
                return

    def listen(self, signal: Any, slot: Callable[[], Any]) -> None:
        """Call ``slot()`` at each signal for as long as the dock lives."""

        def call(*_: Any) -> None:
            slot()

        signal.connect(call)
        self._connections.append(lambda: signal.disconnect(call))

    def refresh(self) -> None:
        """Make what is shown equal to the state."""
        raise NotImplementedError

    def open_dock(self, name: str) -> Any:
        """Show another dock of ours, e.g. "Embed", as a tab beside this one."""
        return open_dock(self._viewer, name)

    def _restyle(self) -> None:
        self.setStyleSheet(style_sheet(self._viewer.theme))


def _readable_tabs(window: Any) -> None:
    """Many docks side by side: their tabs scroll, instead of being cut down to a letter each."""
    for bar in window.findChildren(QTabBar, options=Qt.FindChildOption.FindDirectChildrenOnly):
        bar.setElideMode(Qt.TextElideMode.ElideNone)
        bar.setUsesScrollButtons(True)


def open_dock(viewer: Any, name: str) -> Any:
    """Show one of our docks and return its widget; docks of ours share one place as tabs."""
    dock, widget = viewer.window.add_plugin_dock_widget(PLUGIN, name, tabify=True)
    dock.show()
    dock.raise_()
    return widget


def _dock_of(widget: QWidget) -> QDockWidget | None:
    parent = widget.parent()
    while parent is not None and not isinstance(parent, QDockWidget):
        parent = parent.parent()
    return parent


class _Scroll(QScrollArea):
    """Scrolls up and down only; it is never narrower than what it holds."""

    def __init__(self, inner: QWidget) -> None:
        super().__init__()
        self.setWidget(inner)
        inner.installEventFilter(self)
        self.setWidgetResizable(True)
        self.setFrameShape(QFrame.Shape.NoFrame)
        self.setHorizontalScrollBarPolicy(Qt.ScrollBarPolicy.ScrollBarAlwaysOff)

    def minimumSizeHint(self) -> QSize:
        """Qt's."""
        content = self.widget()
        assert content is not None
        return QSize(content.minimumSizeHint().width() + self.verticalScrollBar().sizeHint().width(), 120)

    def sizeHint(self) -> QSize:
        """Qt's."""
        return self.minimumSizeHint().expandedTo(QSize(MIN_WIDTH, 400))

    def eventFilter(self, watched: Any, event: Any) -> bool:
        """Qt's: a widget that was shown may need more width."""
        if event.type() == QEvent.Type.LayoutRequest:
            self.updateGeometry()
        return super().eventFilter(watched, event)


def compact(*boxes: ComboBox) -> None:
    """Let combo boxes be narrower than their longest entry."""
    for box in boxes:
        native = box.native
        native.setSizeAdjustPolicy(QComboBox.SizeAdjustPolicy.AdjustToMinimumContentsLengthWithIcon)
        native.setMinimumContentsLength(12)


class _Aligned(QObject):
    """Gives the labels of a form that are seen one width: magicgui measures them in another font than napari's."""

    def __init__(self, form: QWidget) -> None:
        super().__init__(form)
        form.installEventFilter(self)

    def eventFilter(self, watched: Any, event: Any) -> bool:
        """Qt's."""
        if event.type() in (QEvent.Type.Show, QEvent.Type.LayoutRequest):
            labels = [label for label in watched.findChildren(QLabel) if label.isVisibleTo(watched)]
            for label in labels:
                label.ensurePolished()
            widest = max((label.sizeHint().width() for label in labels), default=0)
            for label in labels:
                label.setMinimumWidth(widest)
        return super().eventFilter(watched, event)


def align_labels(*forms: Container[Any]) -> None:
    """Let the fields of each form begin below one another."""
    for form in forms:
        _Aligned(form.native)


def keep_choices(workspace: Workspace, name: str, *forms: Container[Any]) -> None:
    """Let a form start with what was chosen in it before, and remember what is chosen from now on."""
    align_labels(*forms)
    for i, form in enumerate(forms):
        kept = workspace.choices.setdefault(f"{name} {i}", {})
        for field in form:
            if field.name in kept:
                with contextlib.suppress(ValueError):  # a choice that this section does not offer
                    field.value = kept[field.name]
        form.changed.connect(lambda _, form=form, kept=kept: kept.update({f.name: f.value for f in form}))


def stack(*parts: QWidget, gap: int = GAP) -> QWidget:
    """Parts one below the other, without a margin."""
    made = QWidget()
    layout = QVBoxLayout(made)
    layout.setContentsMargins(0, 0, 0, 0)
    layout.setSpacing(gap)
    for part in parts:
        layout.addWidget(part)
    return made


class EmptyState(QFrame):
    """What to do next, and the button for it."""

    def __init__(self, words: str, action: str, on_click: Callable[[], Any], *more: QWidget) -> None:
        super().__init__()
        self.setProperty("kind", "empty")
        layout = QVBoxLayout(self)
        layout.setContentsMargins(16, 18, 16, 18)
        layout.setSpacing(GAP)
        self.words = text(words)
        self.words.setAlignment(Qt.AlignmentFlag.AlignCenter)
        self.button = button(action, on_click, "primary")
        layout.addWidget(self.words)
        layout.addWidget(self.button)
        for widget in more:
            layout.addWidget(widget)


class Facts(QWidget):
    """Names and values, one a line."""

    def __init__(self) -> None:
        super().__init__()
        self._grid = QGridLayout(self)
        self._grid.setContentsMargins(0, 0, 0, 0)
        self._grid.setVerticalSpacing(5)
        self._grid.setHorizontalSpacing(14)
        self._grid.setColumnStretch(1, 1)

    def show_facts(self, facts: Iterable[Fact]) -> None:
        """Replace what is shown."""
        empty_layout(self._grid)
        for row, fact in enumerate(facts):
            name, value = text(fact.name, "name", wrap=False, tip=fact.tip), text(fact.value, tip=fact.tip)
            value.setTextInteractionFlags(Qt.TextInteractionFlag.TextSelectableByMouse)
            self._grid.addWidget(name, row, 0, Qt.AlignmentFlag.AlignTop)
            self._grid.addWidget(value, row, 1)


class More(QWidget):
    """Advanced settings, folded until asked for."""

    def __init__(self, content: QWidget, words: str = "More") -> None:
        super().__init__()
        layout = QVBoxLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        layout.setSpacing(4)
        self.toggle = QToolButton()
        self.toggle.setProperty("kind", "link")
        self.toggle.setText(words)
        self.toggle.setCheckable(True)
        self.toggle.setToolButtonStyle(Qt.ToolButtonStyle.ToolButtonTextBesideIcon)
        self.toggle.setArrowType(Qt.ArrowType.RightArrow)
        self.toggle.setCursor(Qt.CursorShape.PointingHandCursor)
        self.content = content
        content.setVisible(False)
        self.toggle.toggled.connect(self._on_toggled)
        layout.addWidget(self.toggle)
        layout.addWidget(content)

    def _on_toggled(self, on: bool) -> None:
        self.toggle.setArrowType(Qt.ArrowType.DownArrow if on else Qt.ArrowType.RightArrow)
        self.content.setVisible(on)
