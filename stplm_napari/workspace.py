"""All that belongs to one viewer: session, canvas, jobs, worker. The docks ask it to act and listen to the session."""

from __future__ import annotations

import contextlib
import tempfile
import threading
import time
from collections import deque
from collections.abc import Callable, Mapping
from datetime import datetime
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Literal
from weakref import WeakKeyDictionary

import numpy as np
from psygnal import Signal
from qtpy.QtCore import QObject, QTimer

from stplm.errors import StplmError
from stplm.progress import Progress
from stplm_napari import tasks
from stplm_napari.applying import Applying
from stplm_napari.arrows import MapArrows
from stplm_napari.canvas import Canvas
from stplm_napari.exploring import Exploring
from stplm_napari.exporter import Exporter
from stplm_napari.facts import will_adapt
from stplm_napari.finetuning import Finetuning
from stplm_napari.importing import Importer
from stplm_napari.jobs import FAILED, Job, Jobs, Slot
from stplm_napari.learning import Learning
from stplm_napari.mapping import MapMaker
from stplm_napari.menu import FileMenu
from stplm_napari.perturbing import Perturbing
from stplm_napari.preview import Preview
from stplm_napari.process import WorkerProcess
from stplm_napari.recent import remember
from stplm_napari.recording import Recorder
from stplm_napari.reopening import held
from stplm_napari.results import Result, snapshot
from stplm_napari.runs import keep_adapted
from stplm_napari.saving import SessionFiles
from stplm_napari.session import UNKNOWN, Embedding, Prediction, Session
from stplm_napari.steps import Step
from stplm_napari.suggesting import Suggesting
from stplm_napari.tools import CLEAR, LABEL, REGION, SELECT, SELECT_MORE, Shape
from stplm_napari.unlike import UnlikeScores
from stplm_napari.viewing import Viewing

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from stplm.tasks.features import FeatureCache
    from stplm_napari.layers import SectionLayers
    from stplm_napari.prepare import CellImage

LIVE_DELAY_MS = 15
"""Labels closer together than this share one fit, and so do those that come while one runs."""


class Workspace(QObject):
    """The workspace of one viewer; :meth:`of` finds it. Use it from the GUI thread."""

    live_changed = Signal(bool)
    _of: ClassVar[WeakKeyDictionary[Any, Workspace]] = WeakKeyDictionary()

    def __init__(self, viewer: Any) -> None:
        super().__init__()
        self.viewer = viewer
        self.session = Session.of(viewer)
        self.jobs = Jobs(self, activity=hasattr(viewer, "window"))
        self.worker, self.mapping = WorkerProcess(), MapMaker(self.session, self.jobs)
        self.finetuning, self.applying = Finetuning(self), Applying(self)
        self.canvas: Canvas | None = None
        self.preview = Preview(viewer)
        self.opening, self.drawing = Slot(), Slot()
        self.embedding, self.classifying = Slot(), Slot()
        self.picking = Slot()
        self.recorder = Recorder(self)
        self.sessions = SessionFiles(self)
        self.unlike = UnlikeScores(self)
        self.importer = Importer(self)
        self.suggesting, self.learning = Suggesting(self), Learning(self)
        self._to_pick: deque[tuple[Callable[[], NDArray[np.int64]], str, str]] = deque()
        self.viewing = Viewing(self)
        self.exploring = Exploring(self)
        self.exporter = Exporter(self)
        self.perturbing = Perturbing(self)
        self.arrows = MapArrows(self)
        self.choices: dict[str, dict[str, Any]] = {}
        """What is chosen in the docks' forms, so that a dock opened again shows it."""
        self._live = True
        self.base: Mapping[str, Any] = {"source": tasks.FROM_LABELS}
        """Where labels come from besides the user's own, with parameters: every later fit takes the same."""
        self._again = False
        self._menu: FileMenu | None = None
        self._timer = QTimer(self)
        self._timer.setSingleShot(True)
        self._timer.setInterval(LIVE_DELAY_MS)
        self._timer.timeout.connect(self._refit)
        self.session.labels_changed.connect(self._request_refit)
        if (window := getattr(viewer, "window", None)) is not None:
            window._qt_window.destroyed.connect(self.close)
            self._menu = FileMenu(self)
            self._listen_to_keys("connect")

    @classmethod
    def of(cls, viewer: Any) -> Workspace:
        """The workspace of a viewer; the same one each time."""
        viewer = getattr(viewer, "__wrapped__", viewer)  # napari hands plugins a proxy
        if viewer not in cls._of:
            cls._of[viewer] = cls(viewer)
        return cls._of[viewer]

    def close(self) -> None:
        """End all that runs and forget the session. The window calls it when it goes."""
        self._of.pop(self.viewer, None)
        self._listen_to_keys("disconnect")
        if self._menu is not None:  # once: a window that goes calls the workspaces that it had before, too
            self._menu.close()
            self._menu = None
        self.viewing.close()
        self.perturbing.close()
        Session.forget(self.viewer)
        if self.canvas is not None:
            self.canvas.let_go()
        self.suggesting.close()
        self.jobs.cancel_all()
        self.worker.stop()
        self.finetuning.close()
        self.applying.close()

    def show_help(self) -> None:
        """The list of keys."""
        from stplm_napari.widgets.keys import show_keys

        show_keys(self.viewer.window._qt_window, str(self.viewer.theme))

    def _listen_to_keys(self, how: str) -> None:
        """To "?" on the canvas: napari cannot bind it, it knows the unshifted keys only."""
        with contextlib.suppress(AttributeError, RuntimeError):  # no window, or one that is gone
            events = self.viewer.window._qt_viewer.canvas._scene_canvas.events
            getattr(events.key_press, how)(self._on_key)

    def _on_key(self, event: Any) -> None:
        if event.text == "?":
            self.show_help()

    # --- opening ---

    def open(
        self,
        path: str | Path,
        *,
        also: Callable[[Any], Any] = lambda table: None,
        then: Callable[[Any], Any] = lambda loaded: None,
        fits: Callable[[Any], bool] = lambda loaded: False,
    ) -> Job:
        """Read a section and show its images; its cells follow. Until it is read, what is open stays open.

        ``also(table)`` runs in the thread once it is read, ``then`` with its result when the section is shown. Where
        the section is open already and ``fits(also(table))`` says so, it is shown as it came, and not read again.
        """
        path = Path(path)

        early = not self.session.is_open
        mine = held(self, path)

        def read(progress: Progress) -> tuple[Any, ...]:
            import stplm
            from stplm_napari.prepare import PreparedSection, prepare_images

            if mine is not None and fits(loaded := also(mine.table)):
                return loaded, mine, mine.section, mine.table, PreparedSection(mine.channels, None)
            channels = Preview.read(path) if early else []
            if channels:
                progress(0, 0)
                self.jobs.later(
                    lambda: self.preview.show(channels) if job.is_running and not job.is_cancelling else None
                )
            self.features.clear()  # made again when they are asked for: there may be two sections in memory soon
            section = stplm.read_section(path, progress=progress)
            table = stplm.cell_table(section)
            _build_index(table)
            return also(table), None, section, table, PreparedSection(channels or prepare_images(section), None)

        def show(result: tuple[Any, ...]) -> None:
            loaded, again, *read = result
            if again is not None:
                again.put_in()
            layers = self.show(*read, path=path).layers
            then(loaded)
            self._draw_cells(layers, None if again is None else again.cells)
            remember(path)

        self.opening.clear()
        job = self.jobs.start(f"Opening {path.name}", read, show)
        job.ended.connect(self.preview.drop)
        return self.opening.take(job)

    def show(self, section: Any, table: Any, prepared: Any = None, *, path: str | Path | None = None) -> Canvas:
        """Make a section that was read the open one. What the last one's jobs left to say is gone."""
        from stplm_napari.layers import make_layers

        layers = make_layers(section, prepared)
        self.session.open(section, table, path=path)
        for slot in (self.drawing, self.embedding, self.classifying, self.picking, self.viewing.making):
            slot.clear()
        self._to_pick.clear()
        self.__dict__.pop("features", None)
        self.base, self._again = {"source": tasks.FROM_LABELS}, False
        if self.canvas is not None:
            self.canvas.close()
        self.preview.hand_over(layers)
        layers.show(self.viewer)
        self.canvas = Canvas(self.viewer, layers, self.session, self.draw, self.suggesting)
        self.drawing.changed.emit()
        return self.canvas

    def _draw_cells(self, layers: SectionLayers, cells: CellImage | None = None) -> Job:
        """Add the cells to the images of the open section. Cancelled or failed, the section stays open without them."""

        def prepare(progress: Progress) -> SectionLayers:
            from stplm_napari.layers import cell_layers
            from stplm_napari.prepare import prepare_cells

            return cell_layers(layers.section, prepare_cells(layers.section) if cells is None else cells)

        def draw(made: SectionLayers) -> bool:
            if self.canvas is None or self.canvas.layers is not layers:
                return False
            self.canvas.let_go()
            layers.add_cells(made)
            self.canvas = Canvas(self.viewer, layers, self.session, self.draw, self.suggesting)
            threading.Thread(target=self._warm_up, daemon=True).start()
            return True

        return self.drawing.take(self.jobs.start("Drawing the cells", prepare, draw))

    @property
    def message(self) -> str:
        """What is missing from the tissue, e.g. positions; a sentence or ""."""
        return self.canvas.layers.message if self.canvas is not None else ""

    def _warm_up(self) -> None:
        """Import before the user asks what is slow to import; if that fails, the job that needs it will say so."""
        from stplm_napari import selection
        from stplm_napari.overlay import warm_up_scores

        if self.canvas is not None:
            _ = self.canvas.layers.picker.grid
        tasks.import_classifier()
        self._prepare_to_fit()
        warm_up_scores()
        selection.warm_up()
        try:
            self.worker.call("stplm_napari.tasks:import_torch", Path(), {})
        except StplmError:
            return

    # --- embedding ---

    def embed(
        self,
        *,
        model: str = "default",
        device: str = "auto",
        adapt: bool | Literal["auto"] = "auto",
        neighbours: bool = True,
        seed: int = 0,
    ) -> Job:
        """Embed every cell in the worker process; see :func:`stplm.embed`."""
        if adapt == "auto":
            adapt = will_adapt(self.session.table, model)
        given = {"model": model, "device": device, "adapt": adapt, "neighbours": neighbours, "seed": seed}
        step = Step("embed", given)
        made_from, table, path = self.session.revision, snapshot(self.session.table), self.session.path
        started = time.monotonic()

        def run(progress: Progress) -> Result:
            with tempfile.TemporaryDirectory(prefix="stplm-") as folder:
                result = tasks.embed_in_worker(table, step.params, Path(folder), self.worker, progress)
                if adapt:
                    keep_adapted(Path(folder) / tasks.ADAPTED, path)
                return result

        def put(result: Result) -> bool:
            about = result.uns.get("embedding", {})
            made = Embedding(str(about.get("model", model)), _now(), time.monotonic() - started)
            kept = self.session.put_embedding(result, made_from, made, step)
            self._prepare_to_fit()
            self._request_refit()
            return kept

        return self.embedding.take(self.jobs.start("Embedding cells", run, put, unit="cells"))

    # --- classifying ---

    @property
    def live(self) -> bool:
        """Whether every label recolours the tissue."""
        return self._live

    @live.setter
    def live(self, on: bool) -> None:
        if on != self._live:
            self._live = on
            self.live_changed.emit(on)
            self._request_refit()

    def resume_fitting(self, base: Mapping[str, Any], live: bool) -> None:
        """Go on as a saved session did: the same source, live or not, and no fit before something changes."""
        self.base = base
        self._timer.stop()
        if live != self._live:
            self._live = live
            self.live_changed.emit(live)

    def classify(self, source: str = tasks.FROM_LABELS, **params: Any) -> Job:
        """Learn from labels and call every cell; see :func:`stplm_napari.tasks.labels_for` for source and params.

        The user's own labels always count, and go first where both say something; labels given later refit from the
        same source.
        """
        return self._fit({"source": source, **params})

    def refit(self) -> Job:
        """Classify again from the source used last, with the labels there are now."""
        return self._fit(self.base)

    @property
    def will_refit(self) -> bool:
        """Whether a fit with the present labels is running or about to."""
        return self._timer.isActive() or self._again or self.classifying.is_busy

    def _fit(self, base: Mapping[str, Any]) -> Job:
        session = self.session
        own = self.session.annotations.by_class()
        flags = {c.name: c.tumour for c in session.classes}
        params = {**base, "labels": own, "tumour": flags, "seed": 0}
        step, made_from, table = Step("classify", params), session.revision, snapshot(session.table)
        n_own = sum(map(len, own.values()))
        model = session.embedding.model if session.embedding else ""

        whole = session.colouring.by == UNKNOWN

        def run(progress: Progress) -> tuple[Any, int, Result]:
            progress(0, 0)
            classifier, labels = tasks.classify(table, params, self.features.of(table), unknown=whole)
            progress(0, 0)
            return classifier, len(labels), Result.prediction_of(table)

        def put(result: tuple[Any, int, Result]) -> bool:
            classifier, n_labels, prediction = result
            if not whole and session.colouring.by == UNKNOWN:  # chosen meanwhile
                self._again = True
                return False
            made = Prediction(tasks.source_words(params, n_own, n_labels), n_labels, model, _now(), made_from)
            kept = session.put_prediction(prediction, classifier, made, step)
            if kept:  # what could not be learnt from is not tried again at the next click
                self.base = base
            return kept

        job = self.jobs.start("Classifying cells", run, put, quiet=True)
        job.ended.connect(lambda: self._after_fit(job))
        return self.classifying.take(job)

    @cached_property
    def features(self) -> FeatureCache:
        """Features of the open section, made once for all who fit or suggest: ``features.of(session.table)``, in a
        thread. They follow the embedding by themselves."""
        from stplm.tasks.features import FeatureCache

        return FeatureCache()

    def _prepare_to_fit(self) -> None:
        """Make now, while nobody waits, what the first fit needs; a failure is that fit's to tell."""
        if self.session.is_embedded:
            table = self.session.table

            def make() -> None:
                with contextlib.suppress(StplmError):
                    tasks.prepare_to_classify(self.features.of(table))

            threading.Thread(target=make, daemon=True).start()

    def _request_refit(self) -> None:
        if self._live and self.session.is_embedded and self._has_two_classes():
            self._timer.start()

    def _has_two_classes(self) -> bool:
        return self.base["source"] != tasks.FROM_LABELS or len(self.session.annotations.counts()) >= 2

    def _refit(self) -> None:
        if self.classifying.is_busy:
            self._again = True
        elif self._live and self.session.is_embedded and self._has_two_classes():
            self._fit(self.base)

    def _after_fit(self, job: Job) -> None:
        if self._again or (job.state != FAILED and self._live and self.session.outdated):
            self._again = False
            self._request_refit()

    # --- many cells at once ---

    def draw(self, shape: Shape, does: str) -> None:
        """Do with a drawn shape what the tool does: its cells are labelled, cleared or selected; or it is a region."""
        if does == REGION:
            session = self.session
            self._guard(lambda: session.annotations.add_region(shape.rings(), class_name=self._own_class()))
        elif self.canvas is not None:
            picker = self.canvas.layers.picker
            self.pick(lambda: shape.cells(picker), does)

    def act_on_region(self, name: str, does: str, class_name: str = "") -> None:
        """Label (by default with the region's class, else the active one), clear or select the cells of a region."""
        if self.canvas is not None:
            region, picker = self.session.annotations.region(name), self.canvas.layers.picker
            self.pick(lambda: region.cells(picker), does, class_name or region.class_name)

    def pick(self, find: Callable[[], NDArray[np.int64]], does: str, class_name: str = "") -> None:
        """Find cells in a thread, then :meth:`act_on` them; one after the other, in the order they were asked for."""
        self._to_pick.append((find, does, class_name or self.session.active_class))
        if not self.picking.is_busy:
            self._pick_next()

    def act_on(self, rows: NDArray[np.int64], does: str, class_name: str = "") -> None:
        """Label, clear or select cells, those that are hidden on the tissue left out. Raises LabelError."""
        session = self.session
        rows, name = session.shown(rows), class_name or session.active_class
        if does == LABEL:
            session.label_rows(rows, name)
        elif does == CLEAR:
            session.clear_rows(rows)
        elif does in (SELECT, SELECT_MORE):
            session.select(rows if does == SELECT else np.union1d(rows, session.selected))
        words = {LABEL: f"labelled {name}", CLEAR: "cleared"}.get(does, "selected")
        self.viewer.status = (
            f"{len(rows):,} cell{'' if len(rows) == 1 else 's'} {words}" if len(rows) else "No cells there"
        )

    def try_to_act_on(self, rows: NDArray[np.int64], does: str, class_name: str = "") -> None:
        """:meth:`act_on`; an error is shown in the dock."""
        self._guard(lambda: self.act_on(rows, does, class_name))

    def _own_class(self) -> str:
        """The active class where it is one of the user's own, "" else."""
        name = self.session.active_class
        return name if self.session.annotations.get(name) is not None else ""

    def _pick_next(self) -> None:
        if not self._to_pick:
            return
        find, does, class_name = self._to_pick.popleft()
        opened = self.session.revision.section

        def put(rows: NDArray[np.int64]) -> bool:
            if self.session.revision.section != opened:
                return False
            self.act_on(rows, does, class_name)
            return True

        job = self.jobs.start("Picking cells", lambda _: find(), put, quiet=True)
        job.ended.connect(self._pick_next)
        self.picking.take(job)

    # --- undo ---

    def undo(self) -> None:
        """Take the last annotation action back."""
        self._guard(self.session.annotations.undo)

    def redo(self) -> None:
        """Bring back what was undone last."""
        self._guard(self.session.annotations.redo)

    def _guard(self, action: Callable[[], Any]) -> None:
        try:
            action()
        except StplmError as error:
            self.session.failed.emit(error)


def _build_index(table: Any) -> None:
    """pandas builds its hash of a million ids at the first look-up: here, not at the first click."""
    table.obs_names.get_indexer(table.obs_names[:1])


def _now() -> str:
    return datetime.now().strftime("%H:%M")
