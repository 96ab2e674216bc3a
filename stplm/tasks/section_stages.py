"""Sections through stages of units that do not depend on each other, on whatever pool does the units.

A section's next stage begins when all units of the one before have ended; meanwhile the pool has those of others. One
section's failure is put on record and costs the others nothing.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Generator, Sequence
from dataclasses import dataclass, replace
from typing import Any

from stplm.progress import Progress, no_progress
from stplm.tasks.scheduler import Ended, Pool, Unit
from stplm.tasks.section_runs import PARTS, SectionRun, failed, tell_nobody

_PATIENCE_S = 0.5
"""How often a caller who waits is asked whether to go on."""


@dataclass(frozen=True)
class Stage:
    """Units to be done in any order; with them the section is ``until`` hundredths through."""

    units: Sequence[Unit]
    until: int


Stages = Generator[Stage, list[Any], SectionRun]
"""Gives a section's stages, is sent the results of each (in the order of its units), and returns the outcome."""


def run_stages(
    runs: Sequence[SectionRun],
    stages: Callable[[SectionRun], Stages],
    pool: Pool,
    *,
    on_change: Callable[[int, SectionRun], object] | None = None,
    progress: Progress = no_progress,
) -> list[SectionRun]:
    """Take every section through its stages; each one's outcome, in order.

    Parameters
    ----------
    stages
        Begins a section's :data:`Stages`.
    on_change
        Told a section's place in the list and its state, when it begins and when it ends.
    progress
        Counts hundredths of a section. Called after each unit, and twice a second while workers do them.

    Raises
    ------
    Cancelled
        When ``progress`` raises it.
    StplmError
        When the pool is lost.
    """
    tell, total = on_change or tell_nobody, len(runs) * PARTS
    ended, courses, waiting = list(runs), dict[int, _Course](), deque(range(len(runs)))
    progress(0, total)
    while courses or waiting:
        while waiting and len(courses) < pool.ahead:
            i = waiting.popleft()
            tell(i, replace(runs[i], state="running"))
            courses[i] = _Course(i, runs[i], stages(runs[i]))
            courses[i].go_on(pool, None)
        if unit := pool.next_ended(_PATIENCE_S):
            courses[unit.token[0]].take(unit, pool)
        for i in [i for i, course in courses.items() if course.outcome]:
            ended[i] = courses.pop(i).outcome or runs[i]
            tell(i, ended[i])
        through = len(runs) - len(waiting) - len(courses)
        progress(through * PARTS + sum(course.through() for course in courses.values()), total)
    return ended


class _Course:
    """One section on its way. ``outcome``: where it ended."""

    def __init__(self, number: int, run: SectionRun, stages: Stages) -> None:
        self.number, self.run, self.stages = number, run, stages
        self.outcome: SectionRun | None = None
        self._results: list[Any] = []
        self._first = self._left = self._from = self._until = 0

    def through(self) -> int:
        """Hundredths."""
        share = 1 - self._left / len(self._results) if self._results else 0
        return self._from + int((self._until - self._from) * share)

    def go_on(self, pool: Pool, results: list[Any] | None) -> None:
        """Submit the next stage that has units, or end."""
        try:
            while not self._left:
                stage = next(self.stages) if results is None else self.stages.send(results)
                self._first += len(self._results)
                self._from, self._until = self._until, stage.until
                self._results, self._left = [None] * len(stage.units), len(stage.units)
                for place, unit in enumerate(stage.units):
                    pool.submit((self.number, self._first + place), unit)
                results = []
        except StopIteration as end:
            self.outcome = end.value
        except Exception as error:  # as of a unit
            self.outcome = failed(self.run, error)

    def take(self, unit: Ended, pool: Pool) -> None:
        """Put a unit's result where it belongs; an error ends the section once the stage's other units have ended."""
        self._results[unit.token[1] - self._first] = unit.error or unit.result
        self._left -= 1
        if self._left:
            return
        if errors := [found for found in self._results if isinstance(found, Exception)]:
            self.outcome = failed(self.run, errors[0])
        else:
            self.go_on(pool, self._results)
