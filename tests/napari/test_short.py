"""Words that are longer than their place end in an ellipsis, and the tooltip has them whole."""

from __future__ import annotations

from typing import Any

from magicgui.widgets import Container, LineEdit
from qtpy.QtCore import QEvent, QPoint, Qt
from qtpy.QtGui import QHelpEvent
from qtpy.QtWidgets import QLabel

from stplm_napari.widgets.common import align_labels
from stplm_napari.widgets.short import ShortBox, ShortLabel

WORDS = "Delete ERBB2 and three others in Myoepithelial, towards Stromal"


def test_a_label_is_cut_where_it_has_no_room(qtbot: Any) -> None:
    label = ShortLabel(Qt.TextElideMode.ElideRight)
    qtbot.addWidget(label)
    label.show_words(WORDS)
    label.show()
    label.resize(label.sizeHint())
    assert label.text() == WORDS
    label.resize(90, 20)
    assert label.text().endswith("…")
    assert WORDS.startswith(label.text()[:-1])
    assert label.toolTip() == WORDS
    label.resize(900, 20)
    assert label.text() == WORDS


def test_a_box_shows_what_its_cut_words_would(qtbot: Any) -> None:
    long, short = ShortBox(4, "Scenario"), ShortBox(4, "Scenario")
    for box in (long, short):
        qtbot.addWidget(box)
        box.resize(140, 26)
    long.addItem(WORDS)
    room = long.fontMetrics()
    drawn = [long.grab().toImage()]
    for cut in range(4, len(WORDS)):
        short.clear()
        short.addItem(WORDS[:cut].rstrip() + "…")
        if room.horizontalAdvance(short.currentText()) < 140:
            drawn.append(short.grab().toImage())
    assert any(drawn[0] == other for other in drawn[1:])
    at = QPoint(5, 5)
    long.event(QHelpEvent(QEvent.Type.ToolTip, at, long.mapToGlobal(at)))
    assert long.toolTip() == f"Scenario: {WORDS}"


def test_the_fields_of_a_form_begin_below_one_another(qtbot: Any) -> None:
    form = Container(widgets=[LineEdit(label="In"), LineEdit(label="Compared with")], labels=True)
    align_labels(form)
    qtbot.addWidget(form.native)
    form.native.setStyleSheet("QLabel { font-size: 22px; padding: 4px; }")
    form.native.show()
    qtbot.waitUntil(lambda: len({field.native.mapTo(form.native, QPoint()).x() for field in form}) == 1)
    assert all(label.width() >= label.sizeHint().width() for label in form.native.findChildren(QLabel))
