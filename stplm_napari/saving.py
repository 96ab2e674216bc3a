"""Save a viewer's whole session, and bring it back so that it shows the same picture."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Mapping
from dataclasses import asdict, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pandas as pd

from stplm import keys
from stplm.errors import StplmError
from stplm_napari.colourings import Colouring
from stplm_napari.fingerprint import cells_fingerprint, files_fingerprint
from stplm_napari.jobs import Job, Slot
from stplm_napari.layers import camera_of
from stplm_napari.packing import pack, unpack
from stplm_napari.plain import restored
from stplm_napari.recent import remember
from stplm_napari.reopening import OF_THE_SECTION
from stplm_napari.results import Result
from stplm_napari.session import Embedding, Prediction, Revision, Session
from stplm_napari.session_file import Saved, find_section, read_session, session_path, write_session
from stplm_napari.steps import Step
from stplm_napari.tools import Tool

if TYPE_CHECKING:
    from stplm.progress import Progress
    from stplm_napari.workspace import Workspace

_PACKED = "packed ids"
_MANY = 200
_LAYER = ("visible", "opacity", "gamma", "contrast_limits", "blending")

Keeper = tuple[Callable[["Workspace"], Any], Callable[["Workspace", Any], None]]
KEEPERS: dict[str, Keeper] = {}
"""What other features keep in a session: name -> (what to save, as JSON holds it; how to bring it back)."""


class SessionFiles:
    """Saves and opens sessions of one workspace."""

    def __init__(self, workspace: Workspace) -> None:
        self._workspace = workspace
        self.saving = Slot()
        self.path: Path | None = None
        """Where the open session was saved or opened last."""
        self.note = ""
        """What could not be brought back, or what to know about it; "" otherwise."""
        workspace.session.section_opened.connect(self._on_opened)

    def suggest(self) -> Path:
        """Where to save: where it was, else beside the section."""
        if self.path is not None:
            return self.path
        section = self._workspace.session.path
        return session_path(self._workspace.exporter.folder() / ("section" if section is None else section.stem))

    def save(self, path: str | Path) -> Job:
        """Save everything that is open into the folder ``path``."""
        saved, path = gather(self._workspace), session_path(path)

        def run(progress: Progress) -> Path:
            progress(0, 0)
            known = replace(saved, fingerprint="" if saved.section is None else files_fingerprint(saved.section))
            cells = cells_fingerprint(table)
            return write_session(replace(known, cells=cells), path)

        def note(written: Path) -> None:
            remember(written)
            if self._workspace.session.revision.section == opened:
                self.path = written

        table, opened = self._workspace.session.table, self._workspace.session.revision.section
        return self.saving.take(self._workspace.jobs.start(f"Saving {path.name}", run, note, can_cancel=False))

    def open(self, path: str | Path, *, at: str | Path | None = None, accept_changed: bool = False) -> Job:
        """Open a session: its section is read, and all is put back.

        Raises
        ------
        SessionError
            It is no session, or its section has moved or changed: see
            :func:`stplm_napari.session_file.find_section`, also for ``at`` and ``accept_changed``.
        """
        path = Path(path)
        section = find_section(path, at=at, accept_changed=accept_changed)

        def load(table: Any) -> tuple[Saved, str]:
            return read_session(path), cells_fingerprint(table)

        def put(loaded: tuple[Saved, str]) -> None:
            saved, cells = loaded
            self.note = put_back(self._workspace, saved, same_cells=saved.cells == cells)
            self.path = path
            remember(path)
            self.saving.changed.emit()

        def fits(loaded: tuple[Saved, str]) -> bool:
            saved, cells = loaded
            return saved.cells == cells

        return self._workspace.open(section, also=load, then=put, fits=fits)

    def _on_opened(self) -> None:
        self.path, self.note = None, ""


# --- from the workspace to a record ---


def gather(workspace: Workspace) -> Saved:
    """What there is to save; arrays are shared, not copied. Its fingerprints are still to be taken."""
    session = workspace.session
    plain: dict[str, Any] = {
        "embedding": None if session.embedding is None else asdict(session.embedding),
        "prediction": None if session.prediction is None else asdict(session.prediction),
        "revision": asdict(session.revision),
        "colouring": session.colouring.to_json(),
        "tool": asdict(session.tool),
        "active_class": session.active_class,
        "regions_shown": session.regions_shown,
        "steps": [_packed(step.to_json()) for step in session.steps],
        "fitting": {"live": workspace.live, "base": dict(workspace.base)},
        "choices": _plain_only(workspace.choices),
        "view": _view(workspace.viewer),
        "layers": _layers(workspace),
        "kept": {name: save(workspace) for name, (save, _) in KEEPERS.items()},
    }
    return Saved(
        None if session.path is None else session.path.resolve(),
        "",
        "",
        plain,
        session.annotations.to_records(),
        added_to(session),
        session.classifier if hasattr(session.classifier, "save") else None,
    )


def added_to(session: Session) -> Result:
    """What the cell table has beyond what the section came with, and all that is ours."""
    table = session.table
    came_obs, came_obsm = session.came_with
    names = [str(n) for n in table.obs if n not in came_obs or str(n).startswith("stplm_")]
    arrays = [n for n in table.obsm if n not in came_obsm or n in (keys.X_STPLM, keys.UMAP, keys.PROBA)]
    about = table.uns.get(keys.UNS, {})
    return Result(
        {name: _storable(table.obs[name]) for name in names},
        {name: table.obsm[name] for name in arrays if hasattr(table.obsm[name], "dtype")},
        {name: value for name, value in about.items() if name not in OF_THE_SECTION},
    )


def _storable(column: pd.Series) -> pd.Series:
    """Text as categories: arrays of objects cannot be written without pickle."""
    if column.dtype == "category" or column.dtype.kind in "biuf":
        return column.copy()
    return pd.Series(pd.Categorical(column.astype(object).map(str, na_action="ignore")), index=column.index)


def _view(viewer: Any) -> dict[str, Any]:
    camera = camera_of(viewer)
    return {"center": [float(c) for c in camera.center], "zoom": float(camera.zoom)}


def _layers(workspace: Workspace) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for layer in _ours(workspace):
        look = {name: getattr(layer, name) for name in _LAYER if hasattr(layer, name)}
        if hasattr(layer, "contrast_limits"):
            look["colormap"] = layer.colormap.name
        found[layer.name] = {
            name: [float(v) for v in value] if name == "contrast_limits" else _text(value)
            for name, value in look.items()
        }
    return found


def _text(value: Any) -> Any:
    return value if value is None or isinstance(value, bool | int | float) else str(value)


def _ours(workspace: Workspace) -> list[Any]:
    return [] if workspace.canvas is None else workspace.canvas.layers.all_layers()


def _plain_only(choices: Mapping[str, Mapping[str, Any]]) -> dict[str, Any]:
    kept: dict[str, dict[str, Any]] = {}
    for form, fields in choices.items():
        for name, value in fields.items():
            if value is None or isinstance(value, str | int | float | bool):
                kept.setdefault(form, {})[name] = value
    return kept


def _packed(value: Any) -> Any:
    """Long lists of cell ids in little room."""
    if isinstance(value, Mapping):
        return {str(k): _packed(v) for k, v in value.items()}
    if isinstance(value, list | tuple):
        if len(value) > _MANY and all(isinstance(v, str) for v in value):
            return {_PACKED: pack(list(value))}
        return [_packed(v) for v in value]
    return value


def _unpacked(value: Any) -> Any:
    if isinstance(value, dict):
        if set(value) == {_PACKED}:
            return unpack(value[_PACKED])
        return {k: _unpacked(v) for k, v in value.items()}
    return [_unpacked(v) for v in value] if isinstance(value, list) else value


# --- from a record to the workspace ---


def put_back(workspace: Workspace, saved: Saved, *, same_cells: bool) -> str:
    """Bring a session back onto its section, which has just been opened. Returns what the user should know, or ""."""
    session, plain = workspace.session, saved.plain
    notes = []
    # Labels first: while nothing is embedded, they ask for no fit.
    had = bool(len(session.annotations.labels) or session.annotations.regions)
    lost, changed = session.annotations.take_records(saved.annotations)
    if lost:
        notes.append(f"{lost:,} labels are of cells that this section does not have.")
    elif had and changed:
        notes.append("Labels and regions are those of the session; undo brings back what the section had.")
    if same_cells:
        saved.results.put_into(session.table)
        session.classifier = saved.classifier
        session.embedding = None if plain.get("embedding") is None else restored(Embedding, plain["embedding"])
        _put_prediction(session, plain)
        session.steps = [Step.from_json(_unpacked(record)) for record in plain.get("steps", [])]
        if session.steps and session.steps[0].name == "open":
            session.steps[0] = Step("open", {"path": str(session.path)})
        session.embedded.emit()
        if session.is_predicted:
            session.predicted.emit()
    else:
        notes.append("The cells differ from those of the session: embedding and classes were left out.")
    session.use(**vars(restored(Tool, plain.get("tool", {}), session.tool)))
    session.show_regions(bool(plain.get("regions_shown", True)))
    session.choose_class(str(plain.get("active_class", "")))
    with contextlib.suppress(TypeError, ValueError):  # of another version: the picture is coloured as by default
        how = Colouring.from_json(plain.get("colouring", {}))
        if session.sources.find(how.by) is None:
            how = replace(how, by=session.colouring.by)
        session.colour(**vars(how))
    fitting = plain.get("fitting", {})
    workspace.resume_fitting(fitting.get("base", workspace.base), bool(fitting.get("live", True)))
    for form, fields in plain.get("choices", {}).items():
        workspace.choices.setdefault(form, {}).update(fields)
    for name, (_, bring) in KEEPERS.items():
        if name in plain.get("kept", {}):
            bring(workspace, plain["kept"][name])
    _look(workspace, plain)
    return "\n".join(notes)


def _put_prediction(session: Session, plain: Mapping[str, Any]) -> None:
    """The prediction is as old as it was: revisions go on from the saved ones, in the section that is open now."""
    section = session.revision.section
    session.revision = replace(restored(Revision, plain.get("revision", {})), section=section)
    made = plain.get("prediction")
    if made is not None:
        prediction = restored(Prediction, made)
        session.prediction = replace(prediction, revision=replace(prediction.revision, section=section))


def _look(workspace: Workspace, plain: Mapping[str, Any]) -> None:
    """Camera and layers; the cells' layers come when they are drawn."""
    view, looks = plain.get("view", {}), plain.get("layers", {})
    with contextlib.suppress(KeyError, TypeError, ValueError):
        camera = camera_of(workspace.viewer)
        camera.center, camera.zoom = tuple(view["center"]), view["zoom"]
    _dress(workspace, looks)
    opened = workspace.session.revision.section

    def when_drawn() -> None:
        if workspace.session.revision.section != opened:
            workspace.drawing.changed.disconnect(when_drawn)
        elif not workspace.drawing.is_busy and workspace.drawing.job is not None:
            workspace.drawing.changed.disconnect(when_drawn)
            _dress(workspace, looks)

    workspace.drawing.changed.connect(when_drawn)


def _dress(workspace: Workspace, looks: Mapping[str, Any]) -> None:
    for layer in _ours(workspace):
        for name, value in looks.get(layer.name, {}).items():
            with contextlib.suppress(AttributeError, KeyError, TypeError, ValueError, StplmError):
                setattr(layer, name, value)
