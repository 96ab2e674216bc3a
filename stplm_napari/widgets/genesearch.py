"""A line that finds a gene of the panel by a part of its symbol."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from qtpy.QtCore import Qt
from qtpy.QtWidgets import QCompleter, QLineEdit

from stplm.errors import GeneError
from stplm_napari.colouring_kinds import genes

if TYPE_CHECKING:
    from stplm_napari.widgets.common import Dock


class GeneSearch(QLineEdit):
    """Calls ``on_gene(symbol)`` for a gene that was chosen or typed in any case; what is no gene is an error."""

    def __init__(self, dock: Dock, on_gene: Callable[[str], Any], hint: str) -> None:
        super().__init__()
        self._session, self._on_gene = dock.session, on_gene
        self.setPlaceholderText(hint)
        self.setClearButtonEnabled(True)
        self.returnPressed.connect(self._take_typed)
        dock.listen(self._session.section_opened, self._list)
        self._list()

    def take(self, symbol: str) -> None:
        """As if the gene had been typed."""
        typed = symbol.strip()
        found = {name.upper(): name for name in genes(self._session)}
        if not typed:
            return
        if typed.upper() not in found:
            expected = f"one of the {len(found)} genes of this panel"
            self._session.failed.emit(
                GeneError(f"The panel has no gene {typed}.", expected=expected, mend="Choose one from the list.")
            )
            return
        self.clearFocus()
        self._on_gene(found[typed.upper()])

    def _take_typed(self) -> None:
        self.take(self.text())

    def _list(self) -> None:
        completer = QCompleter(sorted(genes(self._session)), self)
        completer.setCaseSensitivity(Qt.CaseSensitivity.CaseInsensitive)
        completer.setFilterMode(Qt.MatchFlag.MatchContains)
        # Once the completer has written its text into the line, which it does after this signal.
        completer.activated.connect(self.take, Qt.ConnectionType.QueuedConnection)
        self.setCompleter(completer)
        self.clear()
