"""What a killed or failing write leaves behind."""

from __future__ import annotations

import errno
import multiprocessing
import os
import signal
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from readable import small_table

import stplm
from stplm.errors import ExportError
from stplm.io import staged
from stplm.io.staged import restore_interrupted, staged_file, staged_folder
from stplm.tasks.classifier import Classifier
from stplm.tokens.encoded import RankTokens


def _names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def _write_half_a_file(path: Path, error: Exception | None) -> None:
    with staged_file(path) as part:
        part.write_text("half")
        if error is not None:
            raise error


def _write_half_a_folder(path: Path, error: Exception | None) -> None:
    with staged_folder(path) as part:
        part.mkdir()
        (part / "a").write_text("half")
        if error is not None:
            raise error


def test_file_appears_whole_and_alone(tmp_path: Path) -> None:
    with staged_file(tmp_path / "cells.csv") as part:
        assert part.suffix == ".csv"
        part.write_text("new")
        assert not (tmp_path / "cells.csv").exists()
    assert (tmp_path / "cells.csv").read_text() == "new"
    assert _names(tmp_path) == ["cells.csv"]


def test_failure_keeps_the_old_file(tmp_path: Path) -> None:
    (tmp_path / "cells.csv").write_text("old")
    with pytest.raises(RuntimeError):
        _write_half_a_file(tmp_path / "cells.csv", RuntimeError())
    assert (tmp_path / "cells.csv").read_text() == "old"
    assert _names(tmp_path) == ["cells.csv"]


def test_failure_keeps_the_old_folder(tmp_path: Path) -> None:
    (tmp_path / "s.zarr").mkdir()
    (tmp_path / "s.zarr" / "a").write_text("old")
    with pytest.raises(RuntimeError):
        _write_half_a_folder(tmp_path / "s.zarr", RuntimeError())
    assert (tmp_path / "s.zarr" / "a").read_text() == "old"
    assert _names(tmp_path) == ["s.zarr"]


def test_folder_is_replaced_not_merged(tmp_path: Path) -> None:
    (tmp_path / "s.zarr").mkdir()
    (tmp_path / "s.zarr" / "stale").write_text("old")
    with staged_folder(tmp_path / "s.zarr") as part:
        (part / "deep").mkdir(parents=True)
        (part / "deep" / "new").write_text("new")
    assert [p.name for p in (tmp_path / "s.zarr").rglob("*")] == ["deep", "new"]
    assert _names(tmp_path) == ["s.zarr"]


def test_folder_survives_a_cut_between_the_two_renames(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    final = tmp_path / "s.zarr"
    final.mkdir()
    (final / "a").write_text("old")
    os.replace(final, staged._old(final))  # where a killed process would have left it
    assert restore_interrupted(final)
    assert (final / "a").read_text() == "old"
    real = os.replace

    def second_rename_fails(source: Path, target: Path) -> None:
        if target == final and "part" in Path(source).name:
            raise PermissionError(errno.EACCES, "held open")
        real(source, target)

    monkeypatch.setattr(staged.os, "replace", second_rename_fails)
    with pytest.raises(ExportError, match="no permission"):
        _write_half_a_folder(final, None)
    assert (final / "a").read_text() == "old"
    assert _names(tmp_path) == ["s.zarr"]


def _write_section(path: Path) -> None:
    table = small_table()
    table.write_h5ad(path.with_suffix(".h5ad"))
    stplm.export(stplm.read_section(path.with_suffix(".h5ad")), path, overwrite=True)


def _write_classifier(path: Path) -> None:
    two, none = np.zeros(2), np.zeros((2, 0))
    Classifier(["A", "B"], [], [], none, none, two, two).save(path, overwrite=True)


WRITTEN: dict[str, tuple[Callable[[Path], object], Callable[[Path], Any]]] = {
    "section.zarr": (_write_section, lambda path: stplm.cell_table(stplm.read_section(path)).n_obs),
    "model": (lambda path: stplm.load_model().save(path, overwrite=True), lambda path: stplm.load_model(path).dim),
    "classifier": (_write_classifier, lambda path: Classifier.load(path).classes),
    "tokens": (
        lambda path: stplm.rank_encode(small_table(), medians=None).save(path),
        lambda path: len(RankTokens.load(path)),
    ),
}


@pytest.mark.parametrize("name", WRITTEN)
def test_what_was_saved_opens_after_a_cut_between_the_two_renames(name: str, tmp_path: Path) -> None:
    write, read = WRITTEN[name]
    write(tmp_path / name)
    before = read(tmp_path / name)
    os.replace(tmp_path / name, staged._old(tmp_path / name))
    assert read(tmp_path / name) == before
    assert (tmp_path / name).is_dir()
    assert not staged._old(tmp_path / name).exists()


def test_nothing_to_restore_is_no_error(tmp_path: Path) -> None:
    assert not restore_interrupted(tmp_path / "none")
    assert not restore_interrupted(Path(tmp_path.anchor))


def _write_slowly(path: Path) -> None:
    with staged_file(path) as part, part.open("w") as handle:
        handle.write("half")
        handle.flush()
        time.sleep(30)


@pytest.mark.skipif(not hasattr(signal, "SIGKILL"), reason="needs SIGKILL")
def test_killed_process_leaves_the_old_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "cells.csv"
    path.write_text("old")
    process = multiprocessing.get_context("fork").Process(target=_write_slowly, args=(path,))
    process.start()
    deadline = time.monotonic() + 10
    while len(_names(tmp_path)) < 2 and time.monotonic() < deadline:
        time.sleep(0.01)
    process.kill()
    process.join()
    assert path.read_text() == "old"
    assert len(_names(tmp_path)) == 2
    monkeypatch.setattr(staged, "_LEFTOVER_AFTER_S", -1)
    with staged_file(path) as part:
        part.write_text("new")
    assert _names(tmp_path) == ["cells.csv"]
    assert path.read_text() == "new"


def test_full_disk_is_said_in_plain_words(tmp_path: Path) -> None:
    with pytest.raises(ExportError, match="the disk is full"):
        _write_half_a_file(tmp_path / "a.csv", OSError(errno.ENOSPC, "No space left on device"))
    assert _names(tmp_path) == []


@pytest.mark.parametrize("stage", [staged_file, staged_folder])
def test_bad_targets(tmp_path: Path, stage) -> None:  # type: ignore[no-untyped-def]
    with pytest.raises(ExportError, match="does not exist"), stage(tmp_path / "none" / "a.csv"):
        pass
    taken = tmp_path / "taken.csv"
    if stage is staged_file:
        taken.write_text("old")
    else:
        taken.mkdir()
    with pytest.raises(ExportError, match="exists already"), stage(taken, overwrite=False):
        pass
    assert _names(tmp_path) == ["taken.csv"]


@pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() == 0, reason="root may write anywhere")
def test_no_permission(tmp_path: Path) -> None:
    tmp_path.chmod(0o500)
    with pytest.raises(ExportError, match="permission"), staged_file(tmp_path / "a.csv"):
        pass
    tmp_path.chmod(0o700)


def test_a_link_stays_a_link(tmp_path: Path) -> None:
    (tmp_path / "real.csv").write_text("old")
    (tmp_path / "link.csv").symlink_to(tmp_path / "real.csv")
    with staged_file(tmp_path / "link.csv") as part:
        part.write_text("new")
    assert (tmp_path / "link.csv").is_symlink()
    assert (tmp_path / "real.csv").read_text() == "new"
