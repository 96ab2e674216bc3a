"""The cells that disagree in the comparison on the tissue: how many, in which way, one by one."""

from __future__ import annotations

from typing import TYPE_CHECKING

from qtpy.QtWidgets import QHBoxLayout, QVBoxLayout, QWidget

from stplm_napari.widgets.style import button, text

if TYPE_CHECKING:
    from stplm_napari.widgets.common import Dock

_MOST_PAIRS = 5


class DisagreementList(QWidget):
    """Seen while the tissue is coloured by a comparison."""

    def __init__(self, dock: Dock) -> None:
        super().__init__()
        self._session, self._list = dock.session, dock.workspace.viewing.disagreements
        layout = QVBoxLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        layout.setSpacing(6)
        self.title, self.pairs, self.cell = text(), text(kind="hint"), text()
        row = QHBoxLayout()
        row.setSpacing(6)
        self.previous = button("Previous", lambda: self._list.step(-1), tip="Shift-D")
        self.next = button("Next disagreement", lambda: self._list.step(1), "primary", tip="D")
        row.addWidget(self.previous)
        row.addWidget(self.next, 1)
        for part in (self.title, self.pairs):
            layout.addWidget(part)
        layout.addLayout(row)
        layout.addWidget(self.cell)
        session = self._session
        for signal in (session.section_opened, session.predicted, session.labels_changed, session.colouring_changed):
            dock.listen(signal, self.refresh)
        for signal in (session.regions_changed, self._list.moved):
            dock.listen(signal, self.refresh)
        self.refresh()

    def refresh(self) -> None:
        """Make what is shown equal to the state."""
        shown = self._list.shown
        self.setVisible(shown is not None)
        if shown is None or shown.found is None:
            return
        n, compared = len(shown.found.rows), shown.found.n_compared
        share = f" ({n / compared:.1%})" if compared else ""
        self.title.setText(f"<b>{n:,} disagreement{'' if n == 1 else 's'}</b> among {compared:,} cells compared{share}")
        pairs = shown.found.pairs().head(_MOST_PAIRS)
        self.pairs.setText(
            "\n".join(
                f"{many:,} {shown.pair_words(*map(str, pair))}" for pair, many in zip(pairs.index, pairs, strict=True)
            )
        )
        self.pairs.setVisible(len(pairs) > 0)
        for made in (self.previous, self.next):
            made.setEnabled(n > 0)
        place = self._list.place
        self.cell.setVisible(place >= 0)
        if place >= 0:
            row = self._list.row
            self.cell.setText(f"{place + 1:,} of {n:,}: cell {self._session.table.obs_names[row]}, {shown.reason(row)}")
