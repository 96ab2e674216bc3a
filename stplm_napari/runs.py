"""The folder of a fine-tuning run: what was asked for, the checkpoint, the history, the model. It outlives the window.

It lies in the user's data folder, by section, so that a run whose window was closed or whose process was killed is
found again when the section is opened. No Qt, no torch.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from stplm import keys
from stplm.io.staged import make_folder, staged_file
from stplm.tasks.compare import Comparison
from stplm.tasks.finetune_watch import HistoryTail
from stplm_napari.handover import hand_over
from stplm_napari.journal import user_data
from stplm_napari.results import Result

if TYPE_CHECKING:
    from anndata import AnnData

    from stplm_napari.session import Session

TABLE, CHECKPOINT, HISTORY, MODEL, RESULT = "table.h5ad", "checkpoint", "history.jsonl", "model", "result"
OUTCOME, STOP = "outcome.json", "stop"
_RUN = "run.json"
_KEEP = 3
"""Runs of a section that stay, beside those whose model was kept."""


@dataclass(frozen=True)
class KeptModel:
    """The classifier of a session whose fine-tuned model was kept: its folder."""

    folder: Path

    def save(self, folder: Path) -> Path:
        """Copy the model folder; the copy is checked when it is loaded."""
        shutil.copytree(self.folder, folder)
        return folder


class Run:
    """One run; ``params`` are the step's."""

    def __init__(self, folder: Path, about: Mapping[str, Any]) -> None:
        self.folder, self.about = folder, dict(about)
        self.history = HistoryTail(folder / HISTORY)

    @classmethod
    def new(cls, section: Path | None, params: Mapping[str, Any]) -> Run:
        """A folder for a run on a section. Raises ExportError where none can be made."""
        now = datetime.now()
        folder = make_folder(_folder_of(section) / now.strftime("%Y%m%d-%H%M%S-%f"))
        run = cls(folder, {"section": str(section or ""), "at": now.strftime("%H:%M"), "params": dict(params)})
        run._write()
        for old in _runs(section)[_KEEP:]:
            if not old.kept:
                shutil.rmtree(old.folder, ignore_errors=True)
        return run

    @classmethod
    def latest(cls, section: Path | None) -> Run | None:
        """The last run on a section that nobody has decided on, if it can be shown or gone on with."""
        runs = _runs(section)[:1]
        return next((r for r in runs if not r.decided and (r.outcome or r.can_resume)), None)

    @property
    def params(self) -> dict[str, Any]:
        """The step's."""
        return dict(self.about["params"])

    @property
    def model(self) -> Path:
        """Folder of the model; there once the run has an outcome."""
        return self.folder / MODEL

    @property
    def decided(self) -> str:
        """What was kept: "tuned", "few-shot", "none" (the run was discarded) or "" while nobody has decided."""
        return str(self.about.get("decided", ""))

    @property
    def kept(self) -> bool:
        """Whether its model is in use."""
        return self.decided == "tuned"

    @property
    def outcome(self) -> dict[str, Any] | None:
        """What it ended in (see ``finetune_worker``); None while it has not."""
        try:
            found: dict[str, Any] = json.loads((self.folder / OUTCOME).read_text(encoding="utf-8"))
        except (OSError, ValueError):
            return None
        return found

    @property
    def comparison(self) -> Comparison | None:
        """With the few-shot head; None where nothing was held out, or the run has not ended."""
        found = (self.outcome or {}).get("comparison")
        return None if found is None else Comparison.from_json(found)

    @property
    def can_resume(self) -> bool:
        """Whether training can go on: there is a checkpoint, and it did not run to its end."""
        there = (self.folder / TABLE).is_file() and any((self.folder / CHECKPOINT).glob("*/trainer.json"))
        return there and not self.decided and (self.outcome is None or self.outcome["stopped_at"] is not None)

    def result(self) -> Result:
        """The predictions of its model."""
        return Result.load(self.folder / RESULT)

    def prepare(self, table: AnnData) -> None:
        """Write the cells that it learns from."""
        with staged_file(self.folder / TABLE) as part:
            hand_over(table, part)

    def ask_to_stop(self) -> None:
        """Let the worker end with the best so far."""
        with contextlib.suppress(OSError):
            (self.folder / STOP).touch()

    def go_on(self) -> None:
        """Take back what :meth:`ask_to_stop` asked."""
        (self.folder / STOP).unlink(missing_ok=True)

    def decide(self, what: str) -> None:
        """Remember what was kept; what only training needed goes, and the model too unless it was kept."""
        self.about["decided"] = what
        self._write()
        for name in (CHECKPOINT, *(() if what == "tuned" else (MODEL, RESULT))):
            shutil.rmtree(self.folder / name, ignore_errors=True)
        (self.folder / TABLE).unlink(missing_ok=True)

    def _write(self) -> None:
        with staged_file(self.folder / _RUN) as part:
            part.write_text(json.dumps(self.about, indent=1, ensure_ascii=False), encoding="utf-8")


def keep_adapted(made: Path, section: Path | None) -> None:
    """Keep a model that was adapted to a section, in place of the one before. ``made`` is moved away."""
    kept = _adapted(section)
    kept.parent.mkdir(parents=True, exist_ok=True)
    shutil.rmtree(kept, ignore_errors=True)
    shutil.move(made, kept)


def adapted_folder(section: Path | None) -> Path | None:
    """The model that was adapted to a section last; None where none was kept."""
    kept = _adapted(section)
    return kept if kept.is_dir() else None


def vectors_model(session: Session) -> str | None:
    """The model that made the open section's vectors, to be asked again: a name or a folder. None where it was adapted
    to the section and not kept."""
    if is_adapted(session):
        folder = adapted_folder(session.path)
        return None if folder is None else str(folder)
    return str((_embedded(session) or _note(session)).get("model", "default"))


def vectors_settings(session: Session) -> dict[str, Any]:
    """What else others must be embedded with to have vectors like them, as :func:`stplm.embed` takes it."""
    return {name: value for name, value in _embedded(session).items() if name in ("neighbours", "seed")}


def is_adapted(session: Session) -> bool:
    """Whether the open section's vectors are of a model that was adapted to it."""
    return bool(_note(session).get("adapted"))


def _embedded(session: Session) -> Mapping[str, Any]:
    """The step that embedded the open section last; empty where it came embedded."""
    return next((step.params for step in reversed(session.steps) if step.name == "embed"), {})


def _note(session: Session) -> Mapping[str, Any]:
    note: Mapping[str, Any] = session.table.uns.get(keys.UNS, {}).get(keys.UNS_EMBEDDING, {})
    return note


def _adapted(section: Path | None) -> Path:
    return user_data() / "adapted" / _folder_of(section).name


def _folder_of(section: Path | None) -> Path:
    path = Path("unsaved") if section is None else section.expanduser().resolve()
    digest = hashlib.sha256(str(path).encode()).hexdigest()[:12]
    return user_data() / "finetune" / f"{path.name}-{digest}"


def _runs(section: Path | None) -> list[Run]:
    """Newest first."""
    found = []
    for path in sorted(_folder_of(section).glob(f"*/{_RUN}"), reverse=True):
        with contextlib.suppress(OSError, ValueError):
            found.append(Run(path.parent, json.loads(path.read_text(encoding="utf-8"))))
    return found
