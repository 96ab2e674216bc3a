"""The fine-tuned model and the few-shot head side by side, and the question which to keep."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from qtpy.QtCore import QRectF, QSize, Qt
from qtpy.QtGui import QColor, QFont, QPainter
from qtpy.QtWidgets import QFrame, QGridLayout, QHBoxLayout, QSizePolicy, QVBoxLayout, QWidget

from stplm.tasks.compare import TUNED, Comparison, Scores
from stplm_napari.widgets.style import button, empty_layout, set_property, text

_ROWS = (
    ("Macro-F1", "macro_f1", "Mean F1 over the classes (0 to 1, more is better)"),
    ("Balanced accuracy", "balanced_accuracy", "Mean recall of the classes (0 to 1, more is better)"),
    ("Tumour F1", "tumour_f1", "F1 of tumour against the rest (0 to 1, more is better)"),
    ("Calibration error", "calibration_error", "Mean gap between confidence and accuracy (0 to 1, less is better)"),
)
_RIGHT, _WRONG = QColor("#56B4E9"), QColor("#D55E00")


class ComparisonPanel(QFrame):
    """What held-out cells say of both, and a button for each."""

    def __init__(self, keep_tuned: Callable[[], Any], keep_few_shot: Callable[[], Any]) -> None:
        super().__init__()
        self.setProperty("kind", "empty")
        layout = QVBoxLayout(self)
        layout.setContentsMargins(12, 10, 12, 12)
        layout.setSpacing(8)
        self.title = text("Which to keep?", "title")
        self.verdict, self.cells = text(), text(kind="hint")
        self.scores = QWidget()
        self._grid = QGridLayout(self.scores)
        self._grid.setContentsMargins(0, 0, 0, 0)
        self._grid.setHorizontalSpacing(12)
        self._grid.setColumnStretch(0, 1)
        self.confusions = QWidget()
        row = QHBoxLayout(self.confusions)
        row.setContentsMargins(0, 0, 0, 0)
        self.tuned, self.few_shot = ConfusionPlot("Fine-tuned model"), ConfusionPlot("Few-shot head")
        for part in (self.scores, self.confusions, self.tuned, self.few_shot):
            part.setProperty("kind", "clear")
        row.addWidget(self.tuned)
        row.addWidget(self.few_shot)
        self.keep_tuned = button("Keep the fine-tuned model", keep_tuned, "primary")
        self.keep_few_shot = button("Keep the few-shot head", keep_few_shot)
        for part in (self.title, self.verdict, self.scores, self.cells, self.confusions):
            layout.addWidget(part)
        layout.addWidget(self.keep_tuned)
        layout.addWidget(self.keep_few_shot)

    def show_comparison(self, found: Comparison | None, why_not: str = "", stopped: str = "") -> None:
        """Show a comparison, or why there is none; ``stopped``: a remark on a run that ended early."""
        for part in (self.scores, self.cells, self.confusions):
            part.setVisible(found is not None)
        set_property(self.keep_tuned, "kind", "primary" if found is None or found.better == TUNED else "plain")
        set_property(self.keep_few_shot, "kind", "plain" if found is None or found.better == TUNED else "primary")
        if found is None:
            self.verdict.setText(f"{stopped} {why_not}".strip())
            return
        self.verdict.setText(f"{stopped} {found.in_words()}".strip())
        empty_layout(self._grid)
        for column, words in ((1, "Fine-tuned"), (2, "Few-shot")):
            self._grid.addWidget(text(words, "name", wrap=False), 0, column, Qt.AlignmentFlag.AlignRight)
        shown = [r for r in _ROWS if getattr(found.tuned, r[1]) is not None]
        for row, (name, key, tip) in enumerate(shown, 1):
            values = [getattr(of, key) for of in (found.tuned, found.few_shot)]
            best = min(values) if key == "calibration_error" else max(values)
            self._grid.addWidget(text(name, "name", wrap=False, tip=tip), row, 0)
            for column, value in enumerate(values, 1):
                kind = "bad" if value == best and values[0] != values[1] else "value"
                cell = text(f"{value:.3f}", kind, wrap=False, tip=tip)
                self._grid.addWidget(cell, row, column, Qt.AlignmentFlag.AlignRight)
        p = "under 0.001" if found.p_value < 0.001 else f"{found.p_value:.3f}"
        self.cells.setText(
            f"On {found.cells:,} held-out cells in {found.squares} squares of tissue; both learnt from the same "
            f"{found.learnt_from:,} labels. McNemar's test: p {p}. These cells also chose the fine-tuned model's "
            "number of epochs, which flatters it a little."
        )
        self.tuned.show_scores(found.tuned, found.classes)
        self.few_shot.show_scores(found.few_shot, found.classes)


class ConfusionPlot(QWidget):
    """A small confusion matrix: rows are true classes, columns called ones; numbers in the tooltip."""

    def __init__(self, title: str) -> None:
        super().__init__()
        self._title = title
        self._counts = np.zeros((0, 0), np.int64)
        self._names: list[str] = []
        self.setMouseTracking(True)
        self.setSizePolicy(QSizePolicy.Policy.Expanding, QSizePolicy.Policy.Fixed)

    def show_scores(self, scores: Scores, classes: list[str]) -> None:
        """Show the counts."""
        self._counts, self._names = np.array(scores.confusion, np.int64), classes
        wrong = [
            f"{n:,} {classes[i]} called {classes[j]}"
            for n, i, j in sorted(((self._counts[i, j], i, j) for i, j in _off_diagonal(len(classes))), reverse=True)
            if n
        ]
        right = f"{int(np.trace(self._counts)):,} of {int(self._counts.sum()):,} right"
        self.setToolTip("\n".join([f"{self._title}: {right}", *wrong[:8]]))
        self.updateGeometry()
        self.update()

    def sizeHint(self) -> QSize:
        """Qt's."""
        return QSize(140, 24 + 136)

    def paintEvent(self, event: Any) -> None:
        """Qt's."""
        k = len(self._names)
        if not k:
            return
        painter = QPainter(self)
        small = QFont(self.font())
        small.setPixelSize(10)
        painter.setFont(small)
        ink = self.palette().windowText().color()
        painter.setPen(ink)
        painter.drawText(QRectF(0, 0, self.width(), 14), Qt.AlignmentFlag.AlignLeft, self._title)
        side = min(self.width() - 12, self.height() - 34) / k
        share = self._counts / np.maximum(self._counts.sum(1, keepdims=True), 1)
        for i in range(k):
            for j in range(k):
                box = QRectF(12 + j * side, 18 + i * side, side - 1, side - 1)
                colour = QColor(_RIGHT if i == j else _WRONG)
                colour.setAlphaF(0.06 + 0.94 * float(share[i, j]) ** 0.6)
                painter.fillRect(box, colour)
                if side > 17 and self._counts[i, j]:
                    painter.drawText(box, Qt.AlignmentFlag.AlignCenter, f"{self._counts[i, j]}")
        faint = QColor(ink)
        faint.setAlpha(150)
        painter.setPen(faint)
        painter.drawText(QRectF(12, 18 + k * side, k * side, 14), Qt.AlignmentFlag.AlignHCenter, "called")
        painter.translate(0, 18 + k * side)
        painter.rotate(-90)
        painter.drawText(QRectF(0, -2, k * side, 12), Qt.AlignmentFlag.AlignHCenter, "true")
        painter.end()


def _off_diagonal(k: int) -> list[tuple[int, int]]:
    return [(i, j) for i in range(k) for j in range(k) if i != j]
