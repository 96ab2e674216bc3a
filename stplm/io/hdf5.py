"""Opening HDF5 files so that a damaged one ends in an error a user understands."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from stplm.errors import SectionError

if TYPE_CHECKING:
    import h5py

_SIGNATURE = b"\x89HDF\r\n\x1a\n"


@contextmanager
def open_hdf5(path: Path) -> Iterator[h5py.File]:
    """An HDF5 file, open for reading. Damage found on opening or while reading is raised as SectionError."""
    import h5py

    try:
        with h5py.File(path, "r") as file:
            yield file
    except (OSError, RuntimeError) as error:
        raise damaged(path, error) from error
    except KeyError as error:
        raise SectionError(
            "The HDF5 file is incomplete.",
            where=path,
            found=str(error).strip("'\""),
            expected="all of its datasets",
            mend="Copy the file again from where it was made.",
        ) from error


def require_groups(file: h5py.File, path: Path, names: Sequence[str], kind: str, mend: str | None = None) -> None:
    """Raise SectionError unless the file has all of ``names`` at its root; ``kind`` says what it then would be."""
    if missing := [name for name in names if name not in file]:
        raise SectionError(
            f"The file is not {kind} file, or it is incomplete.",
            where=path,
            found=f"the groups {', '.join(list(file)[:8]) or 'none'}; missing: {', '.join(missing)}",
            expected=f"{', '.join(names[:-1])} and {names[-1]}",
            mend=mend,
        )


def damaged(path: Path, error: Exception) -> SectionError:
    """The error for an HDF5 file that cannot be opened or read: empty, truncated, or no HDF5 at all."""
    size = path.stat().st_size if path.is_file() else 0
    with path.open("rb") as file:
        is_hdf5 = file.read(len(_SIGNATURE)) == _SIGNATURE
    if not is_hdf5:
        problem, found = "The file is not an HDF5 file.", f"{size:,} bytes that do not begin as HDF5 does"
    elif "truncated" in str(error):
        problem, found = "The HDF5 file is truncated: its end is missing.", f"only {size:,} bytes ({error})"
    else:
        problem, found = "The HDF5 file is damaged.", f"{size:,} bytes; {error}"
    return SectionError(
        problem,
        where=path,
        found=found,
        expected="a complete HDF5 file",
        mend="Copy or download it again and compare its size with the original.",
    )


def as_text(values: NDArray[Any]) -> NDArray[np.str_]:
    """Bytes or strings from HDF5 as an array of str."""
    array = np.asarray(values)
    if array.dtype.kind == "S":
        try:
            return array.astype(str)  # far quicker, and takes ASCII alone
        except UnicodeDecodeError:
            return np.char.decode(array, "utf-8")
    if array.dtype.kind == "O":
        return np.array([v.decode("utf-8") if isinstance(v, bytes) else str(v) for v in array], dtype=str)
    return array.astype(str)
