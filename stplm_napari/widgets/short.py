"""Words that may be longer than their place: shown with an ellipsis, whole in the tooltip."""

from __future__ import annotations

from typing import Any

from qtpy.QtCore import QEvent, QSize, Qt
from qtpy.QtWidgets import QComboBox, QLabel, QStyle, QStyleOptionComboBox, QStylePainter

_NARROWEST_PX = 60


class ShortLabel(QLabel):
    """One line that takes what width there is. ``mode``: which end is cut."""

    def __init__(self, mode: Qt.TextElideMode = Qt.TextElideMode.ElideRight) -> None:
        super().__init__()
        self._mode, self._words = mode, ""
        self.setProperty("kind", "value")
        self.setMinimumWidth(_NARROWEST_PX)

    def show_words(self, words: str, tip: str = "") -> None:
        """Show other words; ``tip`` is in the tooltip in their place."""
        self._words = words
        self.setToolTip(tip or words)
        self._cut()
        self.updateGeometry()

    def sizeHint(self) -> QSize:
        """Qt's: room for all words."""
        return QSize(self.fontMetrics().horizontalAdvance(self._words) + self._around(), super().sizeHint().height())

    def resizeEvent(self, event: Any) -> None:
        """Qt's."""
        super().resizeEvent(event)
        self._cut()

    def _cut(self) -> None:
        self.ensurePolished()  # before that it has another font
        self.setText(self.fontMetrics().elidedText(self._words, self._mode, self.width() - self._around()))

    def _around(self) -> int:
        """Pixels beside the words: the style's padding."""
        return super().sizeHint().width() - self.fontMetrics().horizontalAdvance(self.text())


class ShortBox(QComboBox):
    """A combo box that may be narrower than its longest entry: ``letters`` wide at least; ``tip`` says what it is."""

    def __init__(self, letters: int, tip: str) -> None:
        super().__init__()
        self._tip = tip
        self.setToolTip(tip)
        self.setSizeAdjustPolicy(QComboBox.SizeAdjustPolicy.AdjustToMinimumContentsLengthWithIcon)
        self.setMinimumContentsLength(letters)

    def paintEvent(self, event: Any) -> None:
        """Qt's, but for the ellipsis."""
        painter, option = QStylePainter(self), QStyleOptionComboBox()
        self.initStyleOption(option)
        painter.drawComplexControl(QStyle.ComplexControl.CC_ComboBox, option)
        part = QStyle.SubControl.SC_ComboBoxEditField
        room = self.style().subControlRect(QStyle.ComplexControl.CC_ComboBox, option, part, self).width()
        room -= 0 if option.currentIcon.isNull() else option.iconSize.width() + 8
        option.currentText = self.fontMetrics().elidedText(option.currentText, Qt.TextElideMode.ElideRight, room - 6)
        painter.drawControl(QStyle.ControlElement.CE_ComboBoxLabel, option)

    def event(self, event: Any) -> bool:
        """Qt's: the tooltip says what is chosen, whole."""
        if event.type() == QEvent.Type.ToolTip:
            self.setToolTip(f"{self._tip}: {self.currentText()}")
        return bool(super().event(event))
