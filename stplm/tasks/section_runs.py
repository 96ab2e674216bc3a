"""The sections of a batch: where each is, where its output goes, how far it is; one after the other, failures passed
over. What a window may import to show a list: no torch, no numba.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any, Literal

from stplm.errors import Cancelled, StplmError
from stplm.progress import Progress, no_progress

PARTS = 100
"""A section's progress: read, worked on, written, in hundredths."""
_SAY_NOTHING = ("outs", "output", "cell_feature_matrix", "section", "table", "cells", "data", "experiment")
"""File names that do not tell one section from another; their folder's name does."""

WAITING, RUNNING, DONE, SKIPPED, FAILED, CANCELLED = "waiting", "running", "done", "skipped", "failed", "cancelled"
State = Literal["waiting", "running", "done", "skipped", "failed", "cancelled"]


@dataclass(frozen=True)
class SectionRun:
    """A section of a batch: where it is, where its output goes, how far it is.

    Attributes
    ----------
    state
        "skipped" where the output was there already; then the counts are those of the marker.
    cells, classes, unassigned
        Number of cells; of each class; without a class (no counts).
    tumour, unknown
        Share of the cells called tumour, and of those unlike every class (unknown score over 0.95); None where the
        classifier does not say.
    seconds
        How long it took.
    error
        What went wrong.
    """

    section: Path
    folder: Path
    state: State = "waiting"
    cells: int = 0
    classes: Mapping[str, int] = field(default_factory=dict)
    unassigned: int = 0
    tumour: float | None = None
    unknown: float | None = None
    seconds: float = 0.0
    error: StplmError | None = None

    def to_json(self) -> dict[str, Any]:
        """Plain values, without the error."""
        found = asdict(replace(self, error=None))
        del found["error"]
        return {**found, "section": str(self.section), "folder": str(self.folder)}

    @classmethod
    def from_json(cls, found: Mapping[str, Any]) -> SectionRun:
        """What :meth:`to_json` gave."""
        return cls(**{**found, "section": Path(found["section"]), "folder": Path(found["folder"])})


def run_sections(
    runs: Sequence[SectionRun],
    do: Callable[[SectionRun, Progress], SectionRun],
    *,
    on_change: Callable[[int, SectionRun], object] | None = None,
    progress: Progress = no_progress,
) -> list[SectionRun]:
    """Call ``do(run, progress)`` on one section after the other; failures are put on record and passed over.

    Parameters and errors as for :func:`apply_to_sections`; ``do`` gives the outcome, or raises.
    """
    tell = on_change or tell_nobody
    ended = list(runs)
    total = len(runs) * PARTS
    for i, run in enumerate(runs):

        def so_far(done: int, of: int, i: int = i) -> None:
            progress(i * PARTS + (PARTS * done // of if of else 0), total)

        tell(i, replace(run, state="running"))
        try:
            ended[i] = do(run, so_far)
        except Cancelled:
            tell(i, replace(run, state="cancelled"))
            raise
        except Exception as error:  # whatever is wrong with one section must not cost the night
            ended[i] = failed(run, error)
        tell(i, ended[i])
    progress(total, total)
    return ended


def failed(run: SectionRun, error: Exception) -> SectionRun:
    """A section's outcome after an error."""
    if not isinstance(error, StplmError):
        error = StplmError(f"Something went wrong: {str(error) or type(error).__name__}", where=run.section)
    return replace(run, state="failed", error=error)


def sections_in(paths: Iterable[str | Path], out: str | Path) -> list[SectionRun]:
    """A run for each section, each with a folder of its own in ``out``, named after the section.

    ``outs/`` and the like are named after the folder around them. Of two sections of one name the later gets a few
    letters more, which depend on its path alone.
    """
    runs: list[SectionRun] = []
    taken: set[str] = set()
    for path in map(Path, paths):
        name = _name(path)
        if name in taken:
            name = f"{name}-{hashlib.sha256(str(path.resolve()).encode()).hexdigest()[:6]}"
        taken.add(name)
        runs.append(SectionRun(path, Path(out).expanduser() / name))
    return runs


def _name(path: Path) -> str:
    name = path.name.removesuffix(".gz")
    for ending in (".h5ad", ".loom", ".zarr", ".h5", ".xenium"):
        name = name.removesuffix(ending)
    if name.lower() in _SAY_NOTHING and path.resolve().parent.name:
        name = path.resolve().parent.name
    return re.sub(r"[^\w.+-]+", "_", name).strip("._") or "section"


def tell_nobody(place: int, run: SectionRun) -> None:
    """The default of ``on_change``."""
