"""A session on disk: one folder NAME.stplm, made beside and renamed when it is whole. No Qt.

::

    manifest.json   format, which section, and everything that is plain: view, colouring, classes, steps, provenance
    labels.json     labels as they were given, by whom and when; regions
    results/        what was added to the cell table: embedding, map, predictions, imported columns (JSON and arrays)
    classifier/     the few-shot head, see stplm.tasks.classifier; or the fine-tuned model that was kept
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from stplm import __version__
from stplm.errors import StplmError
from stplm.io.staged import restore_interrupted, staged_folder
from stplm_napari.fingerprint import files_fingerprint
from stplm_napari.results import Result

SUFFIX = ".stplm"
MANIFEST = "manifest.json"
_LABELS, _RESULTS, _CLASSIFIER = "labels.json", "results", "classifier"
FORMAT = 1


class SessionError(StplmError):
    """A saved session cannot be opened."""


class SectionMoved(SessionError):
    """The section of a saved session is no longer where it was."""


class SectionChanged(SessionError):
    """The section of a saved session is not the one that it was made from."""


@dataclass(frozen=True)
class Saved:
    """A session as it is written and read.

    ``section`` is the path of its section, None where it came from no file. ``plain`` is everything that JSON holds;
    ``annotations`` what :func:`stplm_napari.annotations.to_records` gives; ``results`` what is added to the table.
    """

    section: Path | None
    fingerprint: str
    cells: str
    """Of the cell table, see :func:`stplm_napari.fingerprint.cells_fingerprint`."""
    plain: Mapping[str, Any] = field(default_factory=dict)
    annotations: Mapping[str, Any] = field(default_factory=dict)
    results: Result = field(default_factory=Result)
    classifier: Any = None


def write_session(saved: Saved, path: str | Path) -> Path:
    """Write a session; a former one of that name is replaced when the new one is whole. Raises ExportError."""
    path = session_path(path)
    with staged_folder(path, mark=MANIFEST) as stage:
        stage.mkdir()
        (stage / _RESULTS).mkdir()
        saved.results.save(stage / _RESULTS)
        if saved.classifier is not None:
            saved.classifier.save(stage / _CLASSIFIER)
        (stage / _LABELS).write_text(json.dumps(saved.annotations, ensure_ascii=False), encoding="utf-8")
        section = saved.section
        manifest = {
            "stplm_session": FORMAT,
            "version": __version__,
            "section": None if section is None else str(section),
            "section_from_here": None if section is None else _relative(section, path.parent),
            "fingerprint": saved.fingerprint,
            "cells": saved.cells,
            **saved.plain,
        }
        (stage / MANIFEST).write_text(json.dumps(manifest, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
    return path


def read_manifest(path: str | Path) -> dict[str, Any]:
    """The manifest of a session. Raises SessionError when it is none, damaged, or of a later version."""
    path = Path(path)
    restore_interrupted(path)
    try:
        manifest = json.loads((path / MANIFEST).read_text(encoding="utf-8"))
        number = manifest["stplm_session"]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise SessionError(
            "This is not a saved session.", where=path, found=str(error), expected=f"a folder with {MANIFEST} in it"
        ) from error
    if number != FORMAT:
        raise SessionError(
            "The session was saved by another version.",
            where=path,
            found=f"format {number}, STPLM {manifest.get('version')}",
            expected=f"format {FORMAT}",
            mend="Install the newest version.",
        )
    return dict(manifest)


def read_session(path: str | Path) -> Saved:
    """Read what :func:`write_session` wrote. Raises SessionError."""
    from stplm.tasks.classifier import Classifier
    from stplm_napari.runs import KeptModel

    path = Path(path)
    manifest = read_manifest(path)
    try:
        results = Result.load(path / _RESULTS)
        annotations = json.loads((path / _LABELS).read_text(encoding="utf-8"))
        classifier: Any = None
        if (path / _CLASSIFIER / "config.json").is_file():
            classifier = KeptModel(path / _CLASSIFIER)
        elif (path / _CLASSIFIER).is_dir():
            classifier = Classifier.load(path / _CLASSIFIER)
        section, fingerprint, cells = manifest["section"], manifest["fingerprint"], manifest["cells"]
    except (OSError, ValueError, KeyError, TypeError, EOFError, StplmError) as error:
        raise SessionError("The saved session is damaged.", where=path, found=str(error)) from error
    return Saved(
        None if section is None else Path(section), fingerprint, cells, manifest, annotations, results, classifier
    )


def find_section(path: str | Path, *, at: str | Path | None = None, accept_changed: bool = False) -> Path:
    """Where the section of a saved session is: where it was, else where it was as seen from the session.

    Parameters
    ----------
    at
        Where the user says it is.
    accept_changed
        Take a section whose files are not those that the session was made from.

    Raises
    ------
    SectionMoved
        It is in neither place.
    SectionChanged
        Another one is there.
    """
    path = Path(path)
    manifest = read_manifest(path)
    given, near = manifest.get("section"), manifest.get("section_from_here")
    places = (
        [Path(at)] if at is not None else [Path(p) for p in (given,) if p] + [path.parent / p for p in (near,) if p]
    )
    there = [place for place in places if place.exists()]
    if not there:
        raise SectionMoved(
            "The section of this session is no longer where it was.",
            where=given,
            found="nothing",
            mend="Say where it is now, or connect its disk.",
        )
    known = manifest.get("fingerprint")
    same = [place for place in there if not known or files_fingerprint(place) == known]
    if same:
        return same[0].resolve()
    if accept_changed:
        return there[0].resolve()
    raise SectionChanged(
        "The section has changed since this session was saved, or it is another one.",
        where=there[0],
        mend="Choose the section that the session was made from. Opened with this one, labels of cells that are not in "
        "it are left out, and so are embedding and classes if its cells differ.",
    )


def session_path(path: str | Path) -> Path:
    """``path`` with the ending of a session."""
    path = Path(path)
    return path if path.suffix == SUFFIX else path.with_name(path.name + SUFFIX)


def is_session(path: str | Path) -> bool:
    """Whether a path is the folder of a saved session, or the manifest in it."""
    path = Path(path)
    return path.suffix == SUFFIX and (path / MANIFEST).is_file()


def _relative(section: Path, folder: Path) -> str | None:
    try:
        return Path(os.path.relpath(section.resolve(), folder.resolve())).as_posix()
    except ValueError:  # another drive
        return None
