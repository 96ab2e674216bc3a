"""The journal of a section's annotations: one JSON object a line, on disk before the next click. No Qt.

A line is appended and flushed to the disk for every action, so that a killed process loses nothing that was shown. A
line that a crash cut short is skipped on reading; the lines before it stand.
"""

from __future__ import annotations

import contextlib
import getpass
import hashlib
import json
import os
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from stplm.errors import StplmError

SUFFIX = ".stplm-labels.jsonl"
FORMAT = 1


class JournalError(StplmError):
    """Annotations cannot be written to disk."""


class Journal:
    """An append-only file of JSON lines.

    Parameters
    ----------
    path
        The file; it is made, with its folder, at the first append.
    about
        Written as the first line of a new file, e.g. ``{"section": "outs"}``; replaced by that line once it is read.
    """

    def __init__(self, path: str | Path, about: Mapping[str, Any] | None = None) -> None:
        self.path = Path(path)
        self.about = dict(about or {})
        self._unwritten: list[Mapping[str, Any]] = []

    def append(self, record: Mapping[str, Any]) -> None:
        """Write one record and wait until the disk has it; what failed before is written first. Raises JournalError."""
        self._unwritten.append(record)
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            new = not self._has_content()
            lines = [{"stplm_journal": FORMAT, **self.about}] * new + self._unwritten
            # A crash may have cut the last line short; it must not swallow this one.
            start = "" if new or self._ends_whole() else "\n"
            text = start + "".join(json.dumps(line, ensure_ascii=False) + "\n" for line in lines)
            _append(self.path, text.encode())
        except OSError as error:
            raise JournalError(
                "Your labels are not being saved to disk.",
                where=self.path,
                found=str(error),
                mend="Free some space or make the folder writable, then label one more cell: all are written then.",
            ) from error
        self._unwritten.clear()

    def read(self) -> list[dict[str, Any]]:
        """All whole records after the first line, oldest first; [] when there is no file. Raises JournalError."""
        try:
            content = self.path.read_bytes()
        except FileNotFoundError:
            return []
        except OSError as error:
            raise JournalError("The saved labels cannot be read.", where=self.path, found=str(error)) from error
        records = []
        for line in content.split(b"\n"):
            with contextlib.suppress(ValueError):
                record = json.loads(line)
                if isinstance(record, dict) and record.pop("stplm_journal", None) is not None:
                    self.about = record
                elif isinstance(record, dict):
                    records.append(record)
        return records

    def _has_content(self) -> bool:
        return self.path.exists() and self.path.stat().st_size > 0

    def _ends_whole(self) -> bool:
        with self.path.open("rb") as file:
            file.seek(-1, os.SEEK_END)
            return file.read(1) == b"\n"


def _append(path: Path, content: bytes) -> None:
    """Append all of it, or nothing."""
    with path.open("ab") as file:
        size = file.tell()
        try:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        except OSError:
            with contextlib.suppress(OSError):
                file.truncate(size)
            raise


def journal_path(section: str | Path) -> Path:
    """Where the labels of the section at ``section`` are kept.

    Beside the section (``outs.stplm-labels.jsonl`` beside ``outs/``) if that folder can be written to, else in the
    user's data folder (or ``STPLM_DATA_DIR``); shipped sections always use the latter, so that an installation stays
    as it was installed.
    """
    path = Path(section).expanduser().resolve()
    if not _is_shipped(path) and _can_write(path.parent):
        return path.parent / (path.name + SUFFIX)
    digest = hashlib.sha256(str(path).encode()).hexdigest()[:12]
    return user_data() / "labels" / f"{path.name}-{digest}{SUFFIX}"


def user_data() -> Path:
    """The user's data folder: ``STPLM_DATA_DIR``, else the platform's."""
    if folder := os.environ.get("STPLM_DATA_DIR"):
        return Path(folder)
    import platformdirs

    return Path(platformdirs.user_data_dir("stplm", appauthor=False))


def annotator() -> str:
    """The name that labels are signed with: the chosen one, else the login name; "" where the system has none."""
    with contextlib.suppress(OSError, UnicodeDecodeError):
        if chosen := _annotator_file().read_text(encoding="utf-8").strip():
            return chosen
    try:
        return getpass.getuser()
    except (OSError, KeyError, ImportError):
        return ""


def choose_annotator(name: str) -> None:
    """Sign labels with this name from now on, in every section; "" for the login name. Raises JournalError."""
    path = _annotator_file()
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(" ".join(name.split()), encoding="utf-8")
    except OSError as error:
        raise JournalError("The annotator's name cannot be kept.", where=path, found=str(error)) from error


def _annotator_file() -> Path:
    return user_data() / "annotator.txt"


def _is_shipped(path: Path) -> bool:
    from stplm.paths import resource

    try:
        return path.is_relative_to(resource("demo_section").resolve().parent)
    except StplmError:
        return False


def _can_write(folder: Path) -> bool:
    try:
        with tempfile.TemporaryFile(dir=folder):
            return True
    except OSError:
        return False
