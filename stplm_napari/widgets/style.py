"""How the docks look: one style sheet over napari's theme, and the few kinds of text and button they use."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from qtpy.QtCore import Qt
from qtpy.QtGui import QColor
from qtpy.QtWidgets import QLabel, QLayout, QPushButton, QSizePolicy, QWidget

MARGIN, GAP = 12, 10
"""Pixels around a dock's content, and between its parts."""


def style_sheet(theme: str) -> str:
    """The style sheet of a dock in a napari theme."""
    from napari.utils.theme import get_theme

    t = get_theme(theme)
    text, panel, edge, accent = (c.as_hex() for c in (t.text, t.foreground, t.secondary, t.current))
    dark = t.type == "dark"
    faint = "rgba(240,241,242,150)" if dark else "rgba(30,30,30,160)"
    on_accent = "white" if dark else text
    hover = QColor(accent).lighter(118).name() if dark else QColor(accent).darker(106).name()
    warn, bad = ("#E9B44C", "#E4572E") if dark else ("#8A5A00", "#B3261E")
    return f"""
    QLabel[kind="title"] {{ font-size: 15px; font-weight: 600; color: {text}; }}
    QLabel[kind="hint"] {{ color: {faint}; }}
    QLabel[kind="name"] {{ color: {faint}; }}
    QLabel[kind="value"] {{ color: {text}; }}
    QLabel[kind="warn"] {{ color: {warn}; }}
    QLabel[kind="bad"] {{ color: {text}; font-weight: 600; }}
    QPushButton[kind="primary"] {{
        background-color: {accent}; color: {on_accent}; font-weight: 600; border-radius: 4px; padding: 7px 14px; }}
    QPushButton[kind="primary"]:hover {{ background-color: {hover}; }}
    QPushButton[kind="primary"]:disabled {{ background-color: {edge}; color: {faint}; }}
    QPushButton[kind="plain"] {{
        background-color: {panel}; color: {text}; border: 1px solid {edge}; border-radius: 4px; padding: 5px 10px; }}
    QPushButton[kind="plain"]:hover {{ border-color: {accent}; }}
    QPushButton[kind="plain"]:checked {{ background-color: {accent}; color: {on_accent}; border-color: {accent}; }}
    QPushButton[kind="plain"]:disabled {{ color: {edge}; border-color: {panel}; }}
    QPushButton[kind="link"], QToolButton[kind="link"] {{
        background: transparent; color: {faint}; border: none; padding: 2px; text-align: left; }}
    QPushButton[kind="link"]:hover, QToolButton[kind="link"]:hover {{ color: {text}; }}
    QToolButton[kind="tool"] {{
        background-color: {panel}; color: {text}; border: 1px solid transparent; border-radius: 4px; padding: 4px; }}
    QToolButton[kind="tool"]:hover {{ border-color: {accent}; }}
    QToolButton[kind="tool"]:checked {{ background-color: {accent}; border-color: {accent}; }}
    QToolButton[kind="tool"]::menu-indicator {{ image: none; }}
    QFrame[kind="error"] {{
        background-color: {panel}; border: none; border-left: 3px solid {bad}; border-radius: 3px; }}
    QFrame[kind="empty"] {{ background-color: {panel}; border-radius: 6px; }}
    QFrame[kind="error"] QLabel, QFrame[kind="empty"] QLabel, QWidget[kind="clear"] {{ background: transparent; }}
    QFrame[kind="row"] {{ border-radius: 4px; background: transparent; border: 1px solid transparent; }}
    QFrame[kind="row"]:hover {{ background-color: {panel}; }}
    QFrame[kind="row"][active="true"] {{ background-color: {panel}; border: 1px solid {accent}; }}
    QFrame[kind="row"] QLabel {{ background: transparent; }}
    QFrame[kind="row"] QToolButton {{ background: transparent; border: none; padding: 0px; }}
    QFrame[kind="row"] QLabel[kind="key"] {{
        border: 1px solid {edge}; border-radius: 3px; color: {text}; font-size: 10px; padding: 0px; }}
    QFrame[kind="row"] QLabel[kind="tumour"] {{
        border-radius: 3px; background-color: #D55E00; color: white; font-size: 10px; font-weight: 600; }}
    QProgressBar {{ min-height: 8px; max-height: 8px; border-radius: 4px; background-color: {panel}; border: none; }}
    QProgressBar::chunk {{ background-color: {accent}; border-radius: 4px; }}
    """


def ink(theme: str) -> QColor:
    """The colour of icons in a napari theme."""
    from napari.utils.theme import get_theme

    return QColor(get_theme(theme).icon.as_hex())


def text(words: str = "", kind: str = "value", *, wrap: bool = True, tip: str = "") -> QLabel:
    """A label: title, hint, name, value, warn or bad."""
    label = QLabel(words)
    label.setProperty("kind", kind)
    label.setWordWrap(wrap)
    label.setToolTip(tip)
    if wrap:
        label.setSizePolicy(QSizePolicy.Policy.Preferred, QSizePolicy.Policy.Minimum)
    return label


def button(words: str, on_click: Callable[[], Any], kind: str = "plain", *, tip: str = "") -> QPushButton:
    """A push button: primary, plain or link."""
    made = QPushButton(words)
    made.setProperty("kind", kind)
    made.setToolTip(tip)
    made.setCursor(Qt.CursorShape.PointingHandCursor)
    made.clicked.connect(lambda: on_click())
    return made


def set_property(widget: QWidget, name: str, value: str) -> None:
    """Change a property that the style sheet looks at."""
    if widget.property(name) != value:
        widget.setProperty(name, value)
        widget.style().unpolish(widget)
        widget.style().polish(widget)


def empty_layout(layout: QLayout) -> None:
    """Take all widgets out of a layout, and let them go."""
    while (item := layout.takeAt(0)) is not None:
        if (widget := item.widget()) is not None:
            widget.deleteLater()
