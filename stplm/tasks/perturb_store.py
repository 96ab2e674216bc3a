"""Where a screen's parts go: memory, or Parquet files in a folder from which a run that was stopped goes on.

A part is a run of cells. ``part-00012.parquet`` has a row a variant; ``class-00012.parquet`` the sums over a part's
variants of how each class's probability changed, a row a set. Each is written beside and renamed, the variants last:
a part is done when its variants are there.
"""

from __future__ import annotations

import json
import shutil
import tempfile
import weakref
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Protocol

import pandas as pd

from stplm.errors import ExportError
from stplm.io.staged import make_folder, staged_file

ABOUT = "perturbation.json"
_PARTS = "parts"
_MOST_IN_MEMORY = 5_000_000
"""Variants; about 100 MB."""


class Store(Protocol):
    """Parts by number."""

    def has(self, part: int) -> bool:
        """Whether a part is done."""

    def put(self, part: int, variants: pd.DataFrame, sums: pd.DataFrame) -> None:
        """Keep a part."""

    def variants(self, columns: list[str] | None = None, set_: int | None = None) -> Iterator[pd.DataFrame]:
        """Variants, part by part; of one set only where it is given."""

    def sums(self) -> Iterator[pd.DataFrame]:
        """Sums, part by part."""


class MemoryStore:
    """Parts in memory; from ``most`` variants on, in a temporary folder that goes with the store."""

    def __init__(self, most: int = _MOST_IN_MEMORY) -> None:
        self._parts: dict[int, tuple[pd.DataFrame, pd.DataFrame]] = {}
        self._room = most
        self._beyond: FolderStore | None = None

    def has(self, part: int) -> bool:
        return part in self._parts or (self._beyond is not None and self._beyond.has(part))

    def put(self, part: int, variants: pd.DataFrame, sums: pd.DataFrame) -> None:
        self._room -= len(variants)
        if self._room >= 0:
            self._parts[part] = variants, sums
            return
        if self._beyond is None:
            home = tempfile.mkdtemp(prefix="stplm-perturb-")
            weakref.finalize(self, shutil.rmtree, home, ignore_errors=True)
            self._beyond = FolderStore(Path(home), {})
        self._beyond.put(part, variants, sums)

    def copy_to(self, other: Store) -> None:
        """Put the parts into another store."""
        for part, frames in self._parts.items():
            if not other.has(part):
                other.put(part, *frames)
        for part in [] if self._beyond is None else self._beyond.parts():
            if self._beyond is not None and not other.has(part):
                other.put(part, *self._beyond.frames(part))

    def variants(self, columns: list[str] | None = None, set_: int | None = None) -> Iterator[pd.DataFrame]:
        for _, (frame, _) in sorted(self._parts.items(), key=lambda item: item[0]):
            kept = frame if set_ is None else frame[frame["set"] == set_]
            yield kept if columns is None else kept[columns]
        if self._beyond is not None:
            yield from self._beyond.variants(columns, set_)

    def sums(self) -> Iterator[pd.DataFrame]:
        for _, (_, frame) in sorted(self._parts.items(), key=lambda item: item[0]):
            yield frame
        if self._beyond is not None:
            yield from self._beyond.sums()


class FolderStore:
    """Parts in a folder, of one run only.

    Parameters
    ----------
    folder
        Made where it is missing.
    about
        What tells this run from others, as plain values.

    Raises
    ------
    ExportError
        The folder holds another run, or something else.
    """

    def __init__(self, folder: Path, about: dict[str, Any] | None = None) -> None:
        self.folder = folder
        if about is None:
            return
        note = folder / ABOUT
        if note.is_file():
            try:
                found = json.loads(note.read_text(encoding="utf-8")).get("run")
            except ValueError:
                found = None
            expected = json.loads(json.dumps(about))
            if found != expected:
                differs = [k for k in expected if not isinstance(found, dict) or found.get(k) != expected[k]]
                raise ExportError(
                    "The folder holds another perturbation.",
                    where=folder,
                    found=f"another {', '.join(differs[:4])}",
                    mend="Choose another folder, or remove that one.",
                )
        elif folder.is_dir() and any(folder.iterdir()):
            raise ExportError("The folder there holds something else.", where=folder, mend="Choose another name.")
        make_folder(folder / _PARTS)
        self.write(ABOUT, json.dumps({"run": about}, indent=1))

    def write(self, name: str, text: str) -> None:
        """A text file beside the parts, whole or not at all."""
        with staged_file(self.folder / name) as stage:
            stage.write_text(text + "\n", encoding="utf-8")

    def has(self, part: int) -> bool:
        return self._path("part", part).is_file()

    def put(self, part: int, variants: pd.DataFrame, sums: pd.DataFrame) -> None:
        for kind, frame in (("class", sums), ("part", variants)):
            with staged_file(self._path(kind, part)) as stage:
                frame.to_parquet(stage, index=False)

    def variants(self, columns: list[str] | None = None, set_: int | None = None) -> Iterator[pd.DataFrame]:
        only = None if set_ is None else [("set", "==", set_)]
        for path in sorted((self.folder / _PARTS).glob("part-*.parquet")):
            yield pd.read_parquet(path, columns=columns, filters=only)

    def sums(self) -> Iterator[pd.DataFrame]:
        for path in sorted((self.folder / _PARTS).glob("class-*.parquet")):
            yield pd.read_parquet(path)

    def parts(self) -> list[int]:
        """Numbers of the parts that are done."""
        return sorted(int(path.stem.removeprefix("part-")) for path in (self.folder / _PARTS).glob("part-*.parquet"))

    def frames(self, part: int) -> tuple[pd.DataFrame, pd.DataFrame]:
        """Variants and sums of one part."""
        return pd.read_parquet(self._path("part", part)), pd.read_parquet(self._path("class", part))

    def _path(self, kind: str, part: int) -> Path:
        return self.folder / _PARTS / f"{kind}-{part:05d}.parquet"
