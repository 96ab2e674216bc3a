"""A large bundle is worked on piece by piece, with the results of one that is read whole."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import anndata as ad
import numpy as np
import pandas as pd
import pytest

import stplm
from stplm import cli, keys
from stplm.errors import Cancelled, SectionError
from stplm.io import laid_out, matrix
from stplm.io.export import write_h5ad
from stplm.io.laid_out import as_table_file, large_bundle, lay_out_bundle
from stplm.tasks.embed_sections import embed_sections
from stplm.tasks.tokenize_sections import tokenize_sections
from stplm.tokens.encoded import RankTokens

Large = Callable[[], None]


@pytest.fixture
def large(monkeypatch: pytest.MonkeyPatch) -> Large:
    """Call it, and every bundle is large from then on, and read in many blocks."""

    def now() -> None:
        monkeypatch.setattr(laid_out, "LARGE", 0)
        monkeypatch.setattr(matrix, "_BLOCK", 5_000)

    return now


def without_masks(folder: Path) -> None:
    (folder / "cells.zarr.zip").unlink()


def without_masks_and_outlines(folder: Path) -> None:
    without_masks(folder)
    (folder / "cell_boundaries.parquet").unlink()
    shutil.rmtree(folder / "morphology_focus")


def in_another_order(folder: Path) -> None:
    path = folder / "cells.parquet"
    pd.read_parquet(path).sample(frac=1, random_state=0).to_parquet(path, index=False)


@pytest.fixture
def bundle(demo_path: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(demo_path, tmp_path / "bundle"))


def _same(found: ad.AnnData, whole: ad.AnnData) -> None:
    pd.testing.assert_frame_equal(found.obs, whole.obs)
    pd.testing.assert_frame_equal(found.var, whole.var)
    assert repr(found.uns) == repr(whole.uns)
    assert sorted(found.obsm) == sorted(whole.obsm)
    for name in whole.obsm:
        assert found.obsm[name].tobytes() == whole.obsm[name].tobytes()
    assert (found.X.dtype, found.X.shape) == (whole.X.dtype, whole.X.shape)
    for part in ("data", "indices", "indptr"):
        np.testing.assert_array_equal(getattr(found.X, part), getattr(whole.X, part))


@pytest.mark.parametrize("change", [None, without_masks, without_masks_and_outlines, in_another_order])
def test_the_table_is_that_of_an_export(
    bundle: Path, tmp_path: Path, large: Large, change: Callable[[Path], None] | None
) -> None:
    if change is not None:
        change(bundle)
    write_h5ad(stplm.read_section(bundle), tmp_path / "whole.h5ad")
    large()
    lay_out_bundle(bundle, tmp_path / "found.h5ad")
    _same(ad.read_h5ad(tmp_path / "found.h5ad"), ad.read_h5ad(tmp_path / "whole.h5ad"))


@pytest.mark.parametrize("task", ["embed", "classify"])
def test_a_task_writes_the_same_bytes(bundle: Path, tmp_path: Path, large: Large, task: str) -> None:
    for name in ("whole", "found"):
        assert cli.main([task, str(bundle), "--out", str(tmp_path / name / "cells.h5ad")]) == 1  # no such folder
        (tmp_path / name).mkdir()
        assert cli.main([task, str(bundle), "--out", str(tmp_path / name / "cells.h5ad")]) == 0
        large()
    _same(*(ad.read_h5ad(tmp_path / name / "cells.h5ad") for name in ("found", "whole")))
    assert [path.name for path in (tmp_path / "found").iterdir()] == ["cells.h5ad"]


def test_exports_are_those_of_the_whole_table(bundle: Path, tmp_path: Path, large: Large) -> None:
    called = tmp_path / "called.h5ad"
    assert cli.main(["classify", str(bundle), "--out", str(called)]) == 0
    section = stplm.read_section(called)
    for name in ("groups.csv", "cells.geojson"):
        stplm.export(section, tmp_path / f"whole_{name}")
        assert cli.main(["export", str(called), "--out", str(tmp_path / name)]) == 0
        assert (tmp_path / name).read_bytes() == (tmp_path / f"whole_{name}").read_bytes()
    assert cli.main(["export", str(called), "--out", str(tmp_path / "copy.h5ad")]) == 0
    _same(ad.read_h5ad(tmp_path / "copy.h5ad"), ad.read_h5ad(called))
    assert cli.main(["export", str(called), "--out", str(tmp_path / "copy.h5ad")]) == 1  # it is there
    stplm.export(stplm.read_section(bundle), tmp_path / "whole.h5ad")
    large()
    assert cli.main(["export", str(bundle), "--out", str(tmp_path / "found.h5ad")]) == 0
    _same(ad.read_h5ad(tmp_path / "found.h5ad"), ad.read_h5ad(tmp_path / "whole.h5ad"))


def test_tokens_are_the_same_bytes(bundle: Path, tmp_path: Path, large: Large) -> None:
    assert cli.main(["tokenize", str(bundle), "--out", str(tmp_path / "whole")]) == 0
    large()
    assert cli.main(["tokenize", str(bundle), "--out", str(tmp_path / "found")]) == 0
    (run,) = tokenize_sections([bundle], tmp_path / "cohort")
    for folder in (tmp_path / "found", run.folder):
        for name in ("ids", "bins", "offsets", "cells"):
            assert (folder / f"{name}.npy").read_bytes() == (tmp_path / "whole" / f"{name}.npy").read_bytes()
    assert run.cells == len(RankTokens.load(run.folder))


def test_pieces_of_a_cohort_are_made_from_it(bundle: Path, tmp_path: Path, large: Large) -> None:
    assert cli.main(["embed", str(bundle), "--out", str(tmp_path / "whole.h5ad")]) == 0
    large()
    (run,) = embed_sections([bundle], tmp_path / "out")
    assert run.state == "done"
    _same(ad.read_h5ad(run.folder / "cells.h5ad"), ad.read_h5ad(tmp_path / "whole.h5ad"))
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == [run.folder.name]


def test_stopped_it_serves_the_next_run_unless_the_bundle_has_changed(
    bundle: Path, tmp_path: Path, large: Large
) -> None:
    large()
    laid = list[tuple[int, int]]()
    for _ in range(2):
        with suppress(Cancelled), as_table_file(bundle, tmp_path / "out.h5ad") as file:
            assert file is not None
            laid.append((file.stat().st_ino, file.stat().st_mtime_ns))
            raise Cancelled
    assert laid[0] == laid[1]
    in_another_order(bundle)
    with as_table_file(bundle, tmp_path / "out.h5ad") as file:
        assert file is not None
        assert (file.stat().st_ino, file.stat().st_mtime_ns) != laid[0]
    assert not file.exists()


def test_an_error_leaves_nothing(bundle: Path, tmp_path: Path, large: Large) -> None:
    large()
    before = set(tmp_path.iterdir())
    with pytest.raises(SectionError), as_table_file(bundle, tmp_path / "out.h5ad"):
        raise SectionError("It cannot be used.")
    with pytest.raises(Cancelled), as_table_file(bundle, tmp_path / "out.h5ad", _stop):
        pass
    pd.read_parquet(bundle / "cells.parquet").iloc[1:].to_parquet(bundle / "cells.parquet", index=False)
    with pytest.raises(SectionError, match=r"cells in cells\.parquet"), as_table_file(bundle, tmp_path / "out.h5ad"):
        pass
    assert set(tmp_path.iterdir()) == before


def _stop(done: int, total: int) -> None:
    if done > 0:
        raise Cancelled


def test_what_is_read_whole(bundle: Path, tmp_path: Path) -> None:
    """A small bundle, and everything that is none."""
    assert large_bundle(bundle) is None
    for section in (bundle, bundle / "cell_feature_matrix.h5", tmp_path / "missing"):
        with as_table_file(section, tmp_path / "out.h5ad") as file:
            assert file is None


def test_a_table_file_is_taken_as_it_is(bundle: Path, tmp_path: Path, large: Large) -> None:
    lay_out_bundle(bundle, tmp_path / "cells.h5ad")
    with as_table_file(tmp_path / "cells.h5ad", tmp_path / "out.h5ad") as file:
        assert file == tmp_path / "cells.h5ad"
    assert file.exists()
    assert keys.X_STPLM not in ad.read_h5ad(file).obsm
