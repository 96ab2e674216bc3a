"""What a viewer's tissue is coloured by: values that take a while are made in a thread before the tissue changes."""

from __future__ import annotations

from typing import TYPE_CHECKING

from psygnal import Signal

from stplm.errors import SectionError
from stplm_napari.jobs import Slot

if TYPE_CHECKING:
    from stplm_napari.colourings import Shown
    from stplm_napari.jobs import Jobs
    from stplm_napari.session import Session


class Viewing:
    """Colours the tissue by any source; the latest wish wins."""

    wish_changed = Signal()

    def __init__(self, session: Session, jobs: Jobs) -> None:
        self._session, self._jobs = session, jobs
        self.making = Slot()
        """The values of a source being made."""
        self.wish = ""
        """The key whose values are being made; "" when the tissue shows what was asked for."""

    def colour_by(self, key: str) -> None:
        """Colour the tissue by a source, at once or as soon as its values are there. An unknown one is an error."""
        session = self._session
        if session.sources.find(key) is None:
            name = key.rpartition(":")[2]
            expected = f"one of the {session.table.n_vars} genes of the panel" if key.startswith("gene:") else ""
            session.failed.emit(
                SectionError(f"The cells cannot be coloured by {name}.", expected=expected, mend="Choose another.")
            )
            return
        if not session.sources.is_slow(key):
            self._show(key)
            return
        self.wish = key
        self.wish_changed.emit()
        made_from, sources = session.revision, session.sources

        def put(shown: Shown | None) -> bool:
            if session.revision.section != made_from.section:
                return False
            sources.keep(key, shown)
            if self.wish != key:
                return False
            self._show(key)
            return True

        self.making.take(
            self._jobs.start(f"Reading {key.rpartition(':')[2]}", lambda _: sources.make(key), put, quiet=True)
        )

    def _show(self, key: str) -> None:
        self.wish = ""
        self._session.colour(by=key)
        self.wish_changed.emit()
