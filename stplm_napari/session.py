"""What is open in a viewer: section, classes and labels, embedding, prediction, colours. Says what changed. No Qt.

The session is changed by the GUI thread only. Tasks work on snapshots; their results come back with the
:class:`Revision` they were made from, and those that no longer fit are dropped.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar
from weakref import WeakKeyDictionary

import numpy as np
from psygnal import Signal

from stplm import keys
from stplm.errors import LabelError, SectionError, StplmError
from stplm.palette import class_colours, is_tumour_name
from stplm_napari.annotations import Annotations
from stplm_napari.changes import CellClass, Change
from stplm_napari.colouring_kinds import own_labels
from stplm_napari.colourings import CELLS, CLASS, CLUSTER, Categories, Colouring, Sources
from stplm_napari.colourings import CONFIDENCE as CONFIDENCE
from stplm_napari.colourings import TUMOUR as TUMOUR
from stplm_napari.colourings import UNKNOWN as UNKNOWN
from stplm_napari.journal import Journal, journal_path
from stplm_napari.results import Result
from stplm_napari.steps import Step
from stplm_napari.tools import Tool

if TYPE_CHECKING:
    from anndata import AnnData
    from numpy.typing import ArrayLike, NDArray

START_CLASSES = ("Tumour", "Epithelial", "Stromal", "T cell", "B cell", "Macrophage", "Endothelial")
"""What the class list holds in a section that nobody has labelled."""
_KEPT_COUNTS = 8


@dataclass(frozen=True)
class Revision:
    """Counts what has changed since the session began; a result remembers the revision it was made from."""

    section: int = 0
    embedding: int = 0
    classes: int = 0
    labels: int = 0


@dataclass(frozen=True)
class Embedding:
    """Where the embedding comes from: the model's name, local time (HH:MM), seconds it took."""

    model: str
    at: str
    seconds: float


@dataclass(frozen=True)
class Prediction:
    """Where the classes on the tissue come from."""

    source: str
    """In the user's words, e.g. "12 of your labels"."""
    n_labels: int
    model: str
    at: str
    """Local time, HH:MM."""
    revision: Revision


class Session:
    """The state of one viewer; :meth:`of` finds it."""

    section_opened = Signal()
    embedded = Signal()
    labels_changed = Signal(Change)
    """Labels or classes changed; classes_changed follows where the registry did."""
    classes_changed = Signal()
    predicted = Signal()
    colouring_changed = Signal()
    sources_changed = Signal()
    """What the tissue can be coloured by has changed, or values that it may be coloured by."""
    painted = Signal()
    """The tissue has other colours; plots that show the same ones follow."""
    active_class_changed = Signal(str)
    regions_changed = Signal()
    skips_changed = Signal()
    selection_changed = Signal()
    tool_changed = Signal()
    """The tool in hand, or whether it is in use at all (:attr:`annotating`)."""
    failed = Signal(StplmError)

    _of: ClassVar[WeakKeyDictionary[Any, Session]] = WeakKeyDictionary()

    def __init__(self) -> None:
        self.section: Any = None
        self.path: Path | None = None
        self.annotations = Annotations(classes=start_classes())
        self._annotating = False
        self.tool = Tool()
        """What the mouse does while annotating; change it with :meth:`use`."""
        self.selected: NDArray[np.int64] = np.zeros(0, np.int64)
        """Rows of the cells that are selected, ascending; change it with :meth:`select`."""
        self.classifier: Any = None
        self.embedding: Embedding | None = None
        self.prediction: Prediction | None = None
        self.revision = Revision()
        self.colouring = Colouring()
        self.sources = Sources(self)
        """What the tissue can be coloured by, and the values."""
        self.active_class = ""
        self.steps: list[Step] = []
        self.regions_shown = True
        """Whether the outlines of the regions are drawn; change it with :meth:`show_regions`."""
        self.came_with: tuple[frozenset[str], frozenset[str]] = (frozenset(), frozenset())
        """Names in obs and obsm that the section had when it was opened."""
        self._table: AnnData | None = None
        self._counts: dict[Hashable, tuple[Any, Any]] = {}

    @classmethod
    def of(cls, viewer: Any) -> Session:
        """The session of a viewer; the same one each time, gone with the viewer."""
        viewer = getattr(viewer, "__wrapped__", viewer)  # napari hands plugins a proxy
        return cls._of.setdefault(viewer, cls())

    @classmethod
    def forget(cls, viewer: Any) -> None:
        """Start anew the next time someone asks for the session of this viewer."""
        cls._of.pop(viewer, None)

    # --- what is there ---

    @property
    def is_open(self) -> bool:
        """Whether a section is open."""
        return self._table is not None

    @property
    def table(self) -> AnnData:
        """The cells of the open section. Raises SectionError when none is open."""
        if self._table is None:
            raise SectionError("No section is open.", mend="Open a section in the Section dock.")
        return self._table

    @property
    def qc(self) -> Mapping[str, Any]:
        """What was counted while reading, see ``stplm.cell_table``; {} when nothing is open."""
        return {} if self._table is None else self._table.uns.get(keys.UNS, {}).get(keys.UNS_QC, {})

    @property
    def has_positions(self) -> bool:
        """Whether the cells of the open section lie somewhere, so that there is a tissue to show and to click."""
        return self._table is not None and keys.SPATIAL in self._table.obsm

    @property
    def is_embedded(self) -> bool:
        """Whether the cells have an embedding."""
        return self._table is not None and keys.X_STPLM in self._table.obsm

    @property
    def is_predicted(self) -> bool:
        """Whether the cells have predicted classes."""
        return self._table is not None and keys.CLASS in self._table.obs

    @property
    def classes(self) -> tuple[CellClass, ...]:
        """The user's classes, then those that only a prediction brought (from a column or from profiles)."""
        own = self.annotations.classes
        names = {c.name for c in own}
        extra = [str(n) for n in self.predicted_classes if n not in names]
        taken = {c.colour.upper() for c in own}
        fresh = [c for c in class_colours([f"{i}" for i in range(len(own) + len(extra))]).values() if c not in taken]
        wanted = class_colours(extra)
        extras = []
        for name in extra:
            colour = wanted[name] if is_tumour_name(name) and wanted[name] not in taken else fresh.pop(0)
            extras.append(CellClass(name, colour, "", name in self._tumour_classes()))
        return (*own, *extras)

    @property
    def predicted_classes(self) -> Sequence[str]:
        """Names of the classes of the prediction; () when there is none."""
        return tuple(self.table.obs[keys.CLASS].cat.categories) if self.is_predicted else ()

    def predicted_counts(self) -> dict[str, int]:
        """Cells per predicted class."""
        if not self.is_predicted:
            return {}
        found = self._counted("classes", keys.CLASS, self._count_classes)
        return {name: int(n) for name, n in zip(self.predicted_classes, found, strict=True)}

    def n_unsure(self) -> int:
        """Cells with a class whose confidence is under the slider."""
        if not self.is_predicted:
            return 0
        below = self.colouring.unsure_below
        return int(self._counted(("unsure", below), keys.CONFIDENCE, lambda: self._count_unsure(below)))

    def possible_colourings(self) -> tuple[str, ...]:
        """Keys of what the cells can be coloured by now, genes apart."""
        return tuple(source.key for source in self.sources.offered())

    @property
    def outdated(self) -> str:
        """Why the prediction no longer fits what is open; "" while it does."""
        made = self.prediction.revision if self.prediction else None
        if made is None or not self.is_predicted:
            return ""
        if made.embedding != self.revision.embedding:
            return "the cells were embedded again since"
        if made.classes != self.revision.classes:
            return "the classes changed since"
        if made.labels != self.revision.labels:
            return "labels changed since"
        return ""

    # --- what happens ---

    def open(self, section: Any, table: AnnData, *, path: str | Path | None = None, keep_labels: bool = True) -> None:
        """Take a section and its cell table; its labels are restored from the journal of ``path``.

        Raises JournalError when that cannot be read; then what was open stays open.
        """
        journal = None
        if path is not None and keep_labels:
            journal = Journal(journal_path(path), {"section": Path(path).name})
        annotations = Annotations(table.obs_names, journal, start_classes())
        self.section, self._table, self.path = section, table, None if path is None else Path(path)
        self.annotations = annotations
        self.annotations.changed.connect(self._on_change)
        self.annotations.save_failed.connect(self._on_save_failed)
        self.classifier, self.embedding, self.prediction = None, None, None
        self.came_with = frozenset(map(str, table.obs)), frozenset(map(str, table.obsm))
        self.revision = Revision(section=self.revision.section + 1)
        self.sources.clear()
        self.colouring = Colouring(by=CLASS if self.is_predicted else CLUSTER if self._has_clusters() else CELLS)
        self.active_class = self.annotations.classes[0].name if self.annotations.classes else ""
        self.selected = np.zeros(0, np.int64)
        self.steps = [Step("open", {"path": str(path)})] if path is not None else []
        self._record_regions()
        self.section_opened.emit()

    def label(self, cells: Iterable[str], name: str | None = None) -> None:
        """Label cells, with the active class by default; a class that only the prediction had becomes the user's."""
        name = self.active_class if name is None else name
        if not name:
            raise LabelError("No class is chosen.", mend="Choose a class in the list, or add one (+).")
        self.adopt(name)
        self.annotations.set_labels(cells, name)

    def label_rows(self, rows: ArrayLike, name: str | None = None) -> None:
        """:meth:`label` by row numbers: of many cells, much faster. No rows, no step."""
        cells = self.annotations.labels.cells_at(np.asarray(rows, np.int64))
        if cells:
            self.label(cells, name)

    def clear_rows(self, rows: ArrayLike) -> None:
        """Take the labels of cells away, by row numbers."""
        self.annotations.clear_labels(self.annotations.labels.cells_at(np.asarray(rows, np.int64)))

    def select(self, rows: ArrayLike) -> None:
        """Make these the selected cells; none by an empty list."""
        rows = np.unique(np.asarray(rows, np.int64))
        if not np.array_equal(rows, self.selected):
            self.selected = rows
            self.selection_changed.emit()

    def shown(self, rows: NDArray[np.int64]) -> NDArray[np.int64]:
        """Those of the rows that the user can see: cells of a class whose eye is closed are left out.

        Lasso, polygon, brush and "all cells of" act on these. What is hidden is so only while the tissue is coloured by
        it; a cell that the user labelled counts as of that class.
        """
        hidden = self.colouring.hidden_now
        shown = self.sources.of(self.colouring.by) if hidden else None
        if not isinstance(shown, Categories):
            return rows
        # One entry more: cells without a category have code -1, the last one.
        visible = np.array([*(name not in hidden for name in shown.names), True])[shown.codes]
        if shown.under_labels:
            visible[own_labels(self)[0]] = True
        return rows[visible[rows]]

    def rows_where(self, column: str, value: str) -> NDArray[np.int64]:
        """Rows of the visible cells with that value in a categorical column of obs, e.g. of a predicted class."""
        found = self.table.obs[column].cat
        places = [i for i, n in enumerate(found.categories) if str(n) == value]
        return self.shown(np.flatnonzero(np.isin(found.codes.to_numpy(), places)))

    def show_regions(self, on: bool) -> None:
        """Draw the outlines of the regions, or do not."""
        self.regions_shown = on
        self.regions_changed.emit()

    def use(self, **what: Any) -> None:
        """Change any of ``shape``, ``does``, ``radius_um`` of the tool."""
        new = replace(self.tool, **what)
        if new != self.tool:
            self.tool = new
            self.tool_changed.emit()

    @property
    def annotating(self) -> bool:
        """Whether the tool is in use; the Annotate dock switches it on while it is in front."""
        return self._annotating

    @annotating.setter
    def annotating(self, on: bool) -> None:
        if on != self._annotating:
            self._annotating = on
            self.tool_changed.emit()

    def adopt(self, name: str) -> None:
        """Make a class that only the prediction has one of the user's own."""
        if self.annotations.get(name) is None and name in self.predicted_classes:
            found = next(c for c in self.classes if c.name == name)
            self.annotations.add_class(name, colour=found.colour, tumour=found.tumour)

    def choose_class(self, name: str) -> None:
        """Make a class the one that clicks give."""
        if name != self.active_class and any(c.name == name for c in self.classes):
            self.active_class = name
            self.active_class_changed.emit(name)

    def put_embedding(self, result: Result, made_from: Revision, embedding: Embedding, step: Step) -> bool:
        """Take an embedding; False when it was made from another section and is dropped."""
        if made_from.section != self.revision.section:
            return False
        result.put_into(self.table)
        self.sources.renew()
        self.embedding = embedding
        self.revision = replace(self.revision, embedding=self.revision.embedding + 1)
        self.record(step)
        self.embedded.emit()
        if not self.is_predicted:
            self.colour(by=CLUSTER if self._has_clusters() else CELLS)
        return True

    def put_prediction(self, result: Result, classifier: Any, prediction: Prediction, step: Step) -> bool:
        """Take a prediction; False when it is dropped because section, embedding or classes have changed since.

        One made from slightly older labels is taken: while a user clicks faster than a large section can be called,
        the tissue follows some clicks behind instead of not at all, and :attr:`outdated` says so.
        """
        made, now = prediction.revision, self.revision
        if (made.section, made.embedding, made.classes) != (now.section, now.embedding, now.classes):
            return False
        first = not self.is_predicted
        # Not every kind of classifier has this score; one prediction's must not stay beside another's classes.
        if keys.UNKNOWN in self.table.obs:
            del self.table.obs[keys.UNKNOWN]
        result.put_into(self.table)
        self.sources.renew()
        self.classifier, self.prediction = classifier, prediction
        self.record(step)
        self.predicted.emit()
        if first or self.colouring.by in (CELLS, CLUSTER) or self.sources.find(self.colouring.by) is None:
            self.colour(by=CLASS)
        return True

    def put_unknown(self, scores: NDArray[np.float32], classifier: Any) -> bool:
        """Add the unknown score (n_cells,) to the prediction of a classifier; False when there is another one now."""
        if classifier is not self.classifier or not self.is_predicted:
            return False
        self.table.obs[keys.UNKNOWN] = scores
        self.sources.renew()
        self.sources_changed.emit()
        return True

    def columns_changed(self) -> None:
        """Say that the cell table has other columns: what the tissue can be coloured by follows."""
        self.sources.renew()
        if self.sources.find(self.colouring.by) is None:
            self.colour(by=CLASS if self.is_predicted else CLUSTER if self._has_clusters() else CELLS)
        self.sources_changed.emit()
        self.classes_changed.emit()

    def colour(self, **what: Any) -> None:
        """Change any field of the :class:`Colouring`."""
        new = replace(self.colouring, **what)
        if new != self.colouring:
            self.colouring = new
            self.colouring_changed.emit()

    def record(self, step: Step) -> None:
        """Remember a step that was run; a repeated fit replaces the one before."""
        if self.steps and step.name == "classify" == self.steps[-1].name:
            self.steps.pop()
        self.steps.append(step)

    # --- inside ---

    def _counted(self, what: Hashable, column: str, count: Callable[[], Any]) -> Any:
        """What was counted of a prediction, once: every label asks for it again. A column put in is another array."""
        found = self.table.obs[column]
        array = found.array if found.dtype == "category" else found.to_numpy()
        made_of, value = self._counts.get(what, (None, None))
        if made_of is not array:
            if len(self._counts) > _KEPT_COUNTS:
                self._counts.clear()
            value = count()
            self._counts[what] = (array, value)
        return value

    def _count_classes(self) -> NDArray[np.int64]:
        codes = self.table.obs[keys.CLASS].cat.codes.to_numpy()
        return np.bincount(codes[codes >= 0], minlength=len(self.predicted_classes))

    def _count_unsure(self, below: float) -> int:
        obs = self.table.obs
        unsure = obs[keys.CONFIDENCE].to_numpy() < below
        return int(np.count_nonzero(unsure & (obs[keys.CLASS].cat.codes.to_numpy() >= 0)))

    def _has_clusters(self) -> bool:
        return self._table is not None and keys.CLUSTER in self._table.obs

    def _tumour_classes(self) -> Sequence[str]:
        about = self.table.uns.get(keys.UNS, {}).get(keys.UNS_PREDICTION, {})
        given = about.get("tumour_classes")
        return [str(n) for n in (filter(is_tumour_name, self.predicted_classes) if given is None else given)]

    def _on_change(self, change: Change) -> None:
        if change.regions is not None:
            self._record_regions()
            self.regions_changed.emit()
        if change.skipped is not None:
            self.skips_changed.emit()
        if not change.labels and change.classes[0] == change.classes[1]:
            return
        before, after = change.classes
        matters = self._matters(change)
        now = self.revision
        self.revision = replace(now, labels=now.labels + bool(change.labels), classes=now.classes + matters)
        if change.renamed and matters:
            self._rename_predicted(*change.renamed)
        if self.active_class not in {c.name for c in self.classes}:
            self.active_class = change.renamed[1] if change.renamed else (after[0].name if after else "")
            self.active_class_changed.emit(self.active_class)
        self.labels_changed.emit(change)
        if before != after:
            self.classes_changed.emit()

    def _matters(self, change: Change) -> bool:
        """Whether a change of the registry touches what was or is being predicted; a new, empty class does not."""
        before, after = ({(c.name, c.tumour) for c in classes} for classes in change.classes)
        used = {*self.predicted_classes, *self.annotations.counts()}
        used |= change.classes_used
        return any(name in used for name, _ in before - after)

    def _record_regions(self) -> None:
        """The steps hold the regions as they are now, once."""
        self.steps = [step for step in self.steps if step.name != "regions"]
        if self.annotations.regions:
            drawn = Step("regions", {"regions": [r.to_json() for r in self.annotations.regions]})
            self.steps.insert(1 if self.steps and self.steps[0].name == "open" else 0, drawn)

    def _on_save_failed(self, error: StplmError) -> None:
        self.failed.emit(error)

    def _rename_predicted(self, old: str, new: str) -> None:
        """A class that is renamed keeps its cells: the prediction follows, and is no older for it."""
        if old not in self.predicted_classes or new in self.predicted_classes:
            return
        if self.prediction is not None and self.prediction.revision.classes == self.revision.classes - 1:
            follows = replace(self.prediction.revision, classes=self.revision.classes)
            self.prediction = replace(self.prediction, revision=follows)
        self.table.obs[keys.CLASS] = self.table.obs[keys.CLASS].cat.rename_categories({old: new})
        about = self.table.uns.get(keys.UNS, {}).get(keys.UNS_PREDICTION, {})
        for entry in ("classes", "tumour_classes"):
            if entry in about:
                about[entry] = [new if str(n) == old else str(n) for n in np.asarray(about[entry]).tolist()]


def start_classes() -> tuple[CellClass, ...]:
    """The classes of a section that nobody has labelled, with keys 1 to 7."""
    colours = class_colours(START_CLASSES)
    return tuple(CellClass(n, colours[n], str(i), is_tumour_name(n)) for i, n in enumerate(START_CLASSES, 1))
