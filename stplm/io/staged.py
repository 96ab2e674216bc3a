"""Crash-safe writes: make the new thing under a temporary name beside the old one, then rename.

A process that is killed in the middle leaves what was there before, whole; never half a file under the final name.
"""

from __future__ import annotations

import errno
import os
import shutil
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from stplm.errors import ExportError

_PART = ".stplm-part-"
_OLD = ".stplm-old"
_LEFTOVER_AFTER_S = 24 * 3600
_REASONS = {
    errno.EACCES: "no permission to write there",
    errno.EPERM: "no permission to write there",
    errno.EROFS: "the disk is read-only",
    errno.ENOSPC: "the disk is full",
    errno.EDQUOT: "the disk quota is used up",
    errno.ENAMETOOLONG: "the name is too long",
}


@contextmanager
def staged_file(path: str | Path, *, overwrite: bool = True) -> Iterator[Path]:
    """Yield a temporary path in the folder of ``path``; on success it becomes ``path`` in one step.

    The temporary name ends like the final one, for writers that go by the ending. When the body raises, the temporary
    file is removed and an earlier file at ``path`` stays as it was.

    Raises
    ------
    ExportError
        The folder is missing or cannot be written, ``path`` is a folder, it exists and ``overwrite`` is False, or
        the system fails in the body: a full disk, a file held open.
    """
    final = _final(path)
    if final.is_dir():
        raise ExportError("A folder of that name is in the way.", where=final, mend="Choose another file name.")
    check_target(final, overwrite=overwrite)
    _sweep(final)
    part = _part(final)
    try:
        with _plain_words(final):
            yield part
            if not part.is_file():
                raise ExportError("Nothing was written.", where=final)
            if final.exists():
                shutil.copymode(final, part)
            _flush(part)
            os.replace(part, final)
            _flush(final.parent)
    finally:
        part.unlink(missing_ok=True)


@contextmanager
def staged_folder(path: str | Path, *, overwrite: bool = True, mark: str | None = None) -> Iterator[Path]:
    """Yield the path of a folder to make (it does not exist yet) beside ``path``; on success it takes its place.

    Folders cannot be replaced in one step everywhere, so the old one is first renamed, then the new one, then the
    old one removed. Killed between the two renames, the old folder lies under its other name, and
    :func:`restore_interrupted` (called here first) puts it back.

    Raises
    ------
    ExportError
        As for :func:`staged_file`; here a *file* of that name is in the way, or a folder that holds something but not
        the file ``mark``: a folder that is not ours is never replaced.
    """
    final = _final(path)
    if final.is_file():
        raise ExportError("A file of that name is in the way.", where=final, mend="Choose another folder name.")
    restore_interrupted(final)
    check_target(final, overwrite=overwrite)
    if mark is not None and final.is_dir() and not (final / mark).is_file() and any(final.iterdir()):
        raise ExportError(
            "The folder there holds something else, so it will not be replaced.",
            where=final,
            expected=f"an empty folder, or one with {mark} in it",
            mend="Choose another name.",
        )
    _sweep(final)
    part, old = _part(final), _old(final)
    try:
        with _plain_words(final):
            yield part
            if not part.is_dir():
                raise ExportError("Nothing was written.", where=final)
            for folder, _, names in os.walk(part):
                for name in names:
                    _flush(Path(folder, name))
            if final.exists():
                os.replace(final, old)
            try:
                os.replace(part, final)
            except BaseException:
                if old.exists():
                    os.replace(old, final)
                raise
            _flush(final.parent)
            shutil.rmtree(old, ignore_errors=True)
    finally:
        shutil.rmtree(part, ignore_errors=True)


def restore_interrupted(path: str | Path) -> bool:
    """Put a folder back whose replacement was cut off between the two renames; True if there was one to restore.

    Whoever reads a folder that :func:`staged_folder` writes calls this first. Nothing is raised: where the old folder
    cannot be put back (a read-only disk), the reader finds nothing there and says so.
    """
    final = _final(path)
    if not final.name or not (old := _old(final)).is_dir():
        return False
    if final.exists():
        shutil.rmtree(old, ignore_errors=True)
        return False
    try:
        os.replace(old, final)
    except OSError:
        return False
    return True


def _final(path: str | Path) -> Path:
    # A link stays a link: what it points to is replaced.
    return Path(os.path.realpath(Path(path).expanduser()))


def _part(final: Path) -> Path:
    return final.with_name(f".{final.stem}{_PART}{uuid.uuid4().hex[:12]}{final.suffix}")


def _old(final: Path) -> Path:
    return final.with_name(f".{final.name}{_OLD}")


def make_folder(path: str | Path) -> Path:
    """Make a folder, and those above it, where it is missing. Raises ExportError."""
    folder = Path(path).expanduser()
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise ExportError("The folder cannot be made.", where=folder, found=str(error)) from error
    return folder


def check_target(path: str | Path, *, overwrite: bool = True) -> None:
    """Raise what writing to ``path`` would raise of the place, so that long work need not end in it.

    Raises
    ------
    ExportError
        The folder to write into is missing or may not be written, or ``path`` is there and ``overwrite`` is False.
    """
    final = _final(path)
    parent = final.parent
    if not parent.is_dir():
        raise ExportError(
            "The folder to write into does not exist.", where=parent, mend="Create it first, or choose another folder."
        )
    if not os.access(parent, os.W_OK | os.X_OK):
        raise ExportError("No permission to write into this folder.", where=parent, mend="Choose another folder.")
    if final.exists() and not overwrite:
        raise ExportError(
            f"{final.name} exists already.",
            where=final,
            mend="Choose another name, or allow overwriting (overwrite=True).",
        )


def _sweep(final: Path) -> None:
    """Remove what killed processes left behind, once it is old enough to be nobody's."""
    for left in final.parent.glob(f".{_glob_safe(final.stem)}{_PART}*"):
        try:
            if time.time() - left.stat().st_mtime < _LEFTOVER_AFTER_S:
                continue
            if left.is_dir():
                shutil.rmtree(left, ignore_errors=True)
            else:
                left.unlink()
        except OSError:
            continue


def _glob_safe(text: str) -> str:
    return "".join(f"[{c}]" if c in "*?[" else c for c in text)


@contextmanager
def _plain_words(final: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        reason = _REASONS.get(error.errno or 0, "the system reported an error")
        raise ExportError(
            f"{final.name} could not be written: {reason}.",
            where=final,
            found=str(error),
            mend="Free some space, close programs that hold the file open, or choose another place.",
        ) from error


def _flush(path: Path) -> None:
    """Ask the system to have it on the disk (a folder: its names), where the platform can."""
    folder = path.is_dir()
    if folder and os.name == "nt":
        return
    handle = os.open(path, os.O_RDONLY if folder or os.name != "nt" else os.O_RDWR)
    try:
        os.fsync(handle)
    except OSError as error:
        # Some network file systems refuse fsync; the rename is still in one step there.
        if error.errno not in (errno.EINVAL, errno.ENOTSUP):
            raise
    finally:
        os.close(handle)
