"""The cells worth labelling: a queue that follows the prediction, and the one that the user looks at.

While the tissue shows a comparison, the cells that disagree are gone through instead, with the same keys.

A cell is looked at from the moment the user asks for it (``N``) until it is answered or left (Esc). Only then do Enter,
``Y``, ``K`` and the digits speak of it, whichever dock is in front: asking for the cell says what the keys are for. At
other times they do what they always do.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from psygnal import Signal
from qtpy.QtCore import QTimer

from stplm import keys
from stplm.errors import StplmError
from stplm_napari import tasks
from stplm_napari.jobs import Slot
from stplm_napari.results import snapshot
from stplm_napari.sketch import Sketch, scene_of

if TYPE_CHECKING:
    from collections.abc import Sequence

    import pandas as pd

    from stplm.progress import Progress
    from stplm_napari.changes import Change
    from stplm_napari.disagreements import Disagreements
    from stplm_napari.workspace import Workspace

LENGTH = 20
DELAY_MS = 200
"""A queue is made once the clicks pause: a fit must not share the processor with it."""
_PATIENCE = 10
"""This often, a queue is put off."""
RING_COLOUR, _RING_UM = "#FFFFFF", 9.0


@dataclass(frozen=True)
class Suggestion:
    """A cell worth labelling: its row and id, and a sentence why."""

    row: int
    cell: str
    reason: str


class Suggesting:
    """The queue of one workspace. Everything is called from the GUI thread."""

    changed = Signal()
    """The queue, or the cell that is looked at."""

    def __init__(self, workspace: Workspace) -> None:
        self._workspace, self._session = workspace, workspace.session
        self.queue: tuple[Suggestion, ...] = ()
        self.current: Suggestion | None = None
        """The cell that is looked at; it stays until it is answered, whatever happens to the queue."""
        self.making = Slot()
        self._ring = Sketch(scene_of(workspace.viewer))
        self._fly = False
        self._waited = 0
        self._answered: list[Suggestion] = []
        self._answering: Suggestion | None = None
        self._timer = QTimer(workspace)
        self._timer.setSingleShot(True)
        self._timer.setInterval(DELAY_MS)
        self._timer.timeout.connect(self._make)
        session = self._session
        session.section_opened.connect(self._on_opened)
        session.embedded.connect(self.refresh)
        session.predicted.connect(self.refresh)
        session.labels_changed.connect(self._on_labels)
        session.skips_changed.connect(self._on_skips)

    # --- what is there ---

    @property
    def is_making(self) -> bool:
        """Whether a new queue is being made or about to."""
        return self._timer.isActive() or self.making.is_busy

    @property
    def place(self) -> int:
        """Where the current cell stands in the queue, from 0; -1 where it is not in it."""
        rows = [s.row for s in self.queue]
        return rows.index(self.current.row) if self.current is not None and self.current.row in rows else -1

    def called(self, row: int) -> tuple[str, float]:
        """The class that the prediction of now gives a cell, and its probability; "" and 0 where there is none."""
        if not self._session.is_predicted:
            return "", 0.0
        obs = self._session.table.obs
        name = obs[keys.CLASS].iloc[row]
        return (name, float(obs[keys.CONFIDENCE].iloc[row])) if isinstance(name, str) else ("", 0.0)

    # --- what the user does ---

    def next(self) -> None:
        """Fly to the next cell of the queue, or the next that disagrees; the one that was looked at stays in it."""
        if (disagreeing := self._disagreeing()) is not None:
            disagreeing.step(1)
        elif not self._session.is_embedded:
            self._say("Embed the cells first: suggestions are made from the embedding.")
        elif self.queue:
            self.go_to(self.queue[(self.place + 1) % len(self.queue)].row)
        else:
            self._fly = True
            self._say("Choosing cells to label…")
            if not self.is_making:
                self.refresh()

    def go_to(self, row: int) -> None:
        """Look at a cell of the queue: the view flies there and the cell gets a ring."""
        found = next((s for s in self.queue if s.row == row), None)
        if found is None:
            return
        self._begin(found)
        if (canvas := self._workspace.canvas) is not None:
            canvas.layers.fly_to(row)
            self._draw_ring()

    def look_at(self, row: int, reason: str) -> None:
        """Look at any cell, which the view shows already: the keys speak of it."""
        self._ring.clear()
        self._begin(Suggestion(row, str(self._session.table.obs_names[row]), reason))

    def _begin(self, current: Suggestion) -> None:
        self.current, self._fly = current, False
        name, sure = self.called(current.row)
        why = f"{current.reason[:1].upper()}{current.reason[1:]}"
        self._say(why + (f" · called {name} {sure:.2f}" if name else ""))
        self.changed.emit()

    def _disagreeing(self) -> Disagreements | None:
        """The cells that disagree, while the tissue shows them."""
        walk = self._workspace.viewing.disagreements
        return walk if walk.shown is not None else None

    def accept(self) -> bool:
        """Give the current cell the class that is called, and go on; False where no cell is looked at."""
        if self.current is None:
            return False
        name, _ = self.called(self.current.row)
        if name:
            self.relabel(name)
        else:
            self._say("Nothing is called here yet: press the key of a class.")
        return True

    def relabel(self, name: str) -> bool:
        """Give the current cell a class, and go on; False where no cell is looked at.

        It becomes the class that clicks give, too: whoever goes on by clicking means the one whose key was pressed.
        """
        if self.current is None:
            return False
        row = self.current.row
        self._answer(lambda: self._session.label_rows([row], name))
        self._session.choose_class(name)
        return True

    def skip(self) -> bool:
        """Leave the current cell without a label for good, and go on; False where no cell is looked at."""
        if self.current is None:
            return False
        cell = self.current.cell
        self._answer(lambda: self._session.annotations.skip_cells([cell]))
        return True

    def leave(self) -> bool:
        """Look at no cell; the queue stays. False where none was looked at."""
        was, self.current, self._fly = self.current, None, False
        self._ring.clear()
        if was is not None:
            self.changed.emit()
        return was is not None

    def clear_skips(self) -> None:
        """Let skipped cells be suggested again."""
        self._try(self._session.annotations.clear_skips)

    def close(self) -> None:
        """Take the ring out of the scene."""
        with contextlib.suppress(RuntimeError):  # a window that goes has taken the timer with it
            self._timer.stop()
        self._ring.remove()

    # --- the queue ---

    def refresh(self) -> None:
        """Make the queue anew, soon."""
        if self._session.is_embedded:
            self._timer.start()
            self.changed.emit()

    def _make(self) -> None:
        if self.making.is_busy or self._should_wait():
            self._timer.start()
            return
        self._waited = 0
        session = self._session
        made, table = session.revision, snapshot(session.table)
        labels, skipped = session.annotations.series(), sorted(session.annotations.skipped)
        may_see = session.shown(np.arange(table.n_obs)) if session.colouring.hidden else None

        def run(progress: Progress) -> pd.DataFrame:
            return tasks.suggest(table, labels, skipped, n=LENGTH, within=may_see)

        def put(frame: pd.DataFrame) -> bool:
            now = session.revision
            if (made.section, made.embedding, made.classes) != (now.section, now.embedding, now.classes):
                return False
            found = zip(frame["row"], frame.index, frame["reason"], strict=True)
            self._put([Suggestion(int(row), str(cell), str(reason)) for row, cell, reason in found])
            return True

        self.making.take(self._workspace.jobs.start("Choosing cells to label", run, put, quiet=True))
        self.changed.emit()

    def _should_wait(self) -> bool:
        """For a fit, or for the unknown score, which comes after the prediction; but not for ever."""
        self._waited += 1
        return self._waited <= _PATIENCE and (self._workspace.will_refit or self._workspace.unlike.is_missing)

    def _put(self, queue: Sequence[Suggestion]) -> None:
        self.queue = self._open(queue)
        if self._fly and self.queue:
            self.go_to(self.queue[0].row)
        elif self._fly:
            self._fly = False
            self._say("No cell is left to ask about.")
        self.changed.emit()

    def _open(self, queue: Iterable[Suggestion]) -> tuple[Suggestion, ...]:
        """Those that have no answer yet."""
        annotations = self._session.annotations
        labels, skipped = annotations.labels, annotations.skipped
        return tuple(s for s in queue if s.cell not in skipped and s.cell not in labels)

    # --- what happens ---

    def _on_opened(self) -> None:
        self._timer.stop()
        self.making.clear()
        self.queue = ()
        self._answered.clear()
        self.leave()
        self.refresh()
        self.changed.emit()

    def _on_labels(self, change: Change) -> None:
        if self._answering is None and self.current is not None and self.current.cell not in change.labels:
            by_hand = change.step.name == "set_labels" and not self._taken_back()
            if by_hand:  # the user has gone over to clicking: digits choose the class of clicks again
                self.leave()
        self._drop_answered()
        if not self._session.is_predicted:  # no prediction will come and renew the queue
            self.refresh()

    def _on_skips(self) -> None:
        self._drop_answered()
        self.refresh()

    def _taken_back(self) -> list[Suggestion]:
        """Answered cells that have no answer any more: it was undone."""
        return list(self._open(self._answered))

    def _drop_answered(self) -> None:
        if again := self._taken_back():
            # Whoever takes an answer back wants to give another one.
            self._answered = [s for s in self._answered if s not in again]
            self.queue = (again[-1], *(s for s in self.queue if s.row != again[-1].row))
            self.go_to(again[-1].row)
            return
        place = max(self.place, 0)
        before, self.queue = self.queue, self._open(self.queue)
        answered = self.current is not None and not self._open([self.current])
        if answered and (disagreeing := self._disagreeing()) is not None:
            disagreeing.step(1)
        elif answered and self.queue:
            # The cell that took its place in the queue is the next one.
            earlier = len(before[:place]) - len(self._open(before[:place]))
            self.go_to(self.queue[(place - earlier) % len(self.queue)].row)
        elif answered:
            self.leave()
            self._fly = True
        if len(before) != len(self.queue):
            self.changed.emit()

    def _answer(self, action: Callable[[], Any]) -> None:
        current, self._answering = self.current, self.current
        self._try(action)
        self._answering = None
        if current is not None and not self._open([current]):
            self._answered.append(current)

    def _try(self, action: Callable[[], Any]) -> None:
        try:
            action()
        except StplmError as error:
            self._session.failed.emit(error)

    def _draw_ring(self) -> None:
        canvas, current = self._workspace.canvas, self.current
        if canvas is None or current is None or canvas.layers.centroids_um is None:
            return
        centre = canvas.layers.centroids_um[current.row]
        turn = np.linspace(0, 2 * np.pi, 49)
        if np.isfinite(centre).all():
            ring = centre + _RING_UM * np.stack([np.cos(turn), np.sin(turn)], axis=1)
            self._ring.show([ring], RING_COLOUR)

    def _say(self, words: str) -> None:
        self._workspace.viewer.status = words
