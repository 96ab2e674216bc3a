"""What the Explore dock does: groups compared, niches, imputed genes; each a job in the worker process.

The workspace has one, so that a dock opened again shows what an earlier one found.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from psygnal import Signal

from stplm import keys
from stplm.palette import class_colours
from stplm.progress import Progress
from stplm_napari import explore_tasks
from stplm_napari.colouring_kinds import GENE_MAP, MODEL
from stplm_napari.colourings import Categories, Kind, Numbers, Source, add_kind, numbers
from stplm_napari.explore_tasks import Comparison
from stplm_napari.jobs import Job, Slot
from stplm_napari.results import Result, snapshot
from stplm_napari.steps import Step

if TYPE_CHECKING:
    from stplm_napari.session import Session
    from stplm_napari.workspace import Workspace

NICHE, IMPUTED = "niche", "imputed"
"""Kinds of colouring sources; the second with a gene behind a colon."""
IMPUTED_GENES = "Imputed genes"


class Exploring:
    """Starts the jobs and keeps the latest comparison."""

    changed = Signal()
    """The comparison came, or went with its section."""

    def __init__(self, workspace: Workspace) -> None:
        self._workspace, self._session = workspace, workspace.session
        self.comparing, self.niching, self.imputing = Slot(), Slot(), Slot()
        self.comparison: Comparison | None = None
        self.compared_by = ""
        """The column whose groups were compared."""
        self._made_from: Any = None
        self._session.section_opened.connect(self._on_opened)

    @property
    def is_outdated(self) -> bool:
        """Whether what was compared has changed since."""
        return self.comparison is not None and self._made_from is not self._column(self.compared_by)

    def compare(self, by: str, radius_um: float) -> Job:
        """Marker genes and neighbourhoods of the groups of a column."""
        params, column = {"by": by, "radius_um": float(radius_um)}, self._column(by)

        def put(found: Comparison) -> None:
            self.comparison, self.compared_by, self._made_from = found, by, column
            self.changed.emit()

        return self._start(self.comparing, "Comparing groups", params, explore_tasks.compare_in_worker, put)

    def find_niches(self, n: int, seed: int = 0) -> Job:
        """Niches of the embedded section; the tissue is coloured by them."""
        params = {"n": int(n), "seed": int(seed)}

        def put(result: Result) -> None:
            self._take(result, Step("niches", params))
            self._workspace.viewing.colour_by(NICHE)

        return self._start(self.niching, "Finding niches", params, explore_tasks.niches_in_worker, put)

    def impute(
        self,
        genes: Sequence[str],
        reference: str | None = None,
        *,
        model: str = "default",
        device: str = "auto",
        seed: int = 0,
    ) -> Job:
        """Expected counts of genes; the tissue is coloured by the first."""
        first = genes[0]
        given = {"genes": list(genes), "reference": reference, "model": model, "device": device, "seed": int(seed)}

        def put(result: Result) -> None:
            self._take(result, Step("impute", given))
            self._workspace.viewing.colour_by(f"{IMPUTED}:{first}")

        return self._start(self.imputing, "Imputing genes", given, explore_tasks.impute_in_worker, put, unit="cells")

    def _start(
        self,
        slot: Slot,
        title: str,
        params: Mapping[str, Any],
        task: Callable[..., Any],
        put: Callable[[Any], None],
        unit: str = "",
    ) -> Job:
        table, opened, worker = snapshot(self._session.table), self._session.revision.section, self._workspace.worker

        def run(progress: Progress) -> Any:
            with tempfile.TemporaryDirectory(prefix="stplm-") as folder:
                return task(table, params, Path(folder), worker, progress)

        def take(found: Any) -> bool:
            if self._session.revision.section != opened:
                return False
            put(found)
            return True

        return slot.take(self._workspace.jobs.start(title, run, take, unit=unit))

    def _take(self, result: Result, step: Step) -> None:
        session = self._session
        result.put_into(session.table)
        session.record(step)
        session.sources.renew()
        session.sources_changed.emit()

    def _column(self, name: str) -> Any:
        """What the groups of a column are now; another object once they were made anew."""
        session = self._session
        if name == keys.CLASS:
            return session.prediction
        return session.revision.section if name in session.table.obs else None

    def _on_opened(self) -> None:
        self.comparison, self.compared_by, self._made_from = None, "", None
        for slot in (self.comparing, self.niching, self.imputing):
            slot.clear()
        self.changed.emit()


def imputed(session: Session) -> dict[str, tuple[int, str, float]]:
    """Imputed genes of a section: column of the array, where it comes from, how well it is predicted (NaN: unknown)."""
    if not session.is_open or keys.IMPUTED not in session.table.obsm:
        return {}
    about = session.table.uns.get(keys.UNS, {}).get(keys.UNS_IMPUTED, {})
    columns = (list(np.asarray(about.get(name, []))) for name in ("genes", "how", "r"))
    return {str(g): (i, str(how), float(r)) for i, (g, how, r) in enumerate(zip(*columns, strict=True))}


def imputed_words(how: str, r: float) -> str:
    """Where an imputed gene comes from, in words for the colour bar and the dock."""
    words = f"imputed from the {how}: expected counts, not measured"
    return words + (f" (r {r:.2f} in held-out cells)" if np.isfinite(r) else "")


def _offered(session: Session) -> list[Source]:
    return [Source(f"{IMPUTED}:{gene}", f"{gene} (imputed)", IMPUTED_GENES) for gene in imputed(session)]


def _values(session: Session, gene: str) -> Numbers | None:
    found = imputed(session).get(gene)
    if found is None:
        return None
    column, how, r = found
    values = session.table.obsm[keys.IMPUTED][:, column]
    return numbers(values, 0.0, cmap=GENE_MAP, unit="expected counts", words=imputed_words(how, r))


def _offered_niches(session: Session) -> list[Source]:
    return [Source(NICHE, "Niche", MODEL)] if keys.NICHE in session.table.obs else []


def _niches(session: Session, _: str) -> Categories:
    found = session.table.obs[keys.NICHE].cat
    names = [str(n) for n in found.categories]
    return Categories(found.codes.to_numpy(), names, list(class_colours(names).values()))


add_kind(Kind(NICHE, _offered_niches, _niches))
add_kind(Kind(IMPUTED, _offered, _values))
