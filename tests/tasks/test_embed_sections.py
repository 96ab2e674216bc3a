"""Sections embedded in pieces, here and by workers: the same vectors, and nothing made twice, whoever is killed."""

from __future__ import annotations

import os
import signal
import time
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

import anndata as ad
import pytest
import torch
from anndata import AnnData
from forked import embed_until_killed, ends_by_sigkill

import stplm
from stplm import cli, keys
from stplm.errors import Cancelled, ModelError
from stplm.models import Model, build_encoder
from stplm.tasks import adapt, encode
from stplm.tasks.embed_sections import embed_sections
from stplm.tokens.encoded import RankTokens

if TYPE_CHECKING:
    from distributed import Client

Parts = dict[str, tuple[int, int]]


@pytest.fixture(autouse=True)
def _small_pieces(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(encode, "BLOCK", 100)
    monkeypatch.setattr(encode, "BAND_CELLS", 100)


@pytest.fixture
def cohort(table: AnnData, tmp_path: Path) -> list[Path]:
    """The demo section's cells drawn apart to several rows of tiles, and 250 cells without positions."""
    table.obsm[keys.SPATIAL] = table.obsm[keys.SPATIAL] * [1, 4]
    (tmp_path / "cohort").mkdir()
    paths = [tmp_path / "cohort" / "tall.h5ad", tmp_path / "cohort" / "loose.h5ad"]
    table.write_h5ad(paths[0])
    loose = table[:250].copy()
    del loose.obsm[keys.SPATIAL]
    loose.write_h5ad(paths[1])
    return paths


@pytest.fixture(scope="module")
def small_rank(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a small gene-token model; neighbours matter to it."""
    torch.manual_seed(0)
    encoder = build_encoder("rank", stplm.load_model().encoder.genes, {"layers": 2, "hidden": 32, "feed_forward": 32})
    with torch.no_grad():
        for name, parameter in encoder.named_parameters():
            if name in ("gene_embedding", "gate.query.weight", "gate.change.weight"):
                parameter.normal_()
    return Model(encoder.eval(), "small", preset="rank").save(tmp_path_factory.mktemp("models") / "small")


def _assert_as_in_one_go(path: Path, made: Path, *options: object) -> None:
    """The file is what ``stplm embed`` writes, bytes of the vectors included."""
    whole_file = made.with_name("whole.h5ad")
    assert cli.main(["embed", str(path), "--out", str(whole_file), *map(str, options)]) == 0
    whole, found = ad.read_h5ad(whole_file), ad.read_h5ad(made)
    assert found.obsm[keys.X_STPLM].tobytes() == whole.obsm[keys.X_STPLM].tobytes()
    assert repr(found.uns) == repr(whole.uns)
    assert (found.X != whole.X).nnz == 0
    assert found.obs.equals(whole.obs)
    assert found.var.equals(whole.var)


def _parts(out: Path) -> Parts:
    """What is made of each section: file and time of each piece."""
    found: Parts = {}
    for path in out.glob("*.parts/[!.]*-0*.npy"):
        with suppress(FileNotFoundError):  # merged meanwhile
            found[f"{path.parent.name}/{path.name}"] = (path.stat().st_ino, path.stat().st_mtime_ns)
    return found


def _stops(out: Path, after: int) -> tuple[Parts, object]:
    """A progress callback that cancels once so many pieces are there, and puts them on record."""
    seen: Parts = {}

    def progress(done: int, total: int) -> None:
        if len(found := _parts(out)) >= after:
            seen.update(found)
            raise Cancelled

    return seen, progress


@pytest.mark.parametrize("preset", ["tissue", "rank"])
def test_in_line_the_vectors_are_those_of_one_go(
    cohort: list[Path], demo_path: Path, tmp_path: Path, small_rank: Path, preset: str
) -> None:
    """Of table files, which are read piece by piece, and of a bundle, which is laid out first."""
    cohort = [*cohort, demo_path]
    out, at = tmp_path / "out", list[tuple[int, int]]()
    model = "default" if preset == "tissue" else small_rank
    runs = embed_sections(cohort, out, model, progress=lambda *p: at.append(p))
    assert [(run.state, run.cells) for run in runs] == [("done", 1135), ("done", 250), ("done", 1135)]
    assert [d for d, _ in at] == sorted(d for d, _ in at)
    assert at[-1] == (300, 300)
    for path in cohort:
        _assert_as_in_one_go(path, out / path.stem / "cells.h5ad", "--model", model)
    assert sorted(p.name for p in out.iterdir()) == ["demo_section", "loose", "tall"]
    again = embed_sections(cohort, out, model)
    assert [run.state for run in again] == ["skipped", "skipped", "skipped"]
    other = embed_sections(cohort[1:2], out, model, seed=1)
    assert [run.state for run in other] == ["done"]


def test_a_stopped_run_goes_on_and_makes_no_piece_again(
    cohort: list[Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = tmp_path / "out"
    seen, stop = _stops(out, 14)
    with pytest.raises(Cancelled):
        embed_sections(cohort, out, progress=stop)
    assert 12 < len(seen) < 18
    assert _parts(out) == seen
    with monkeypatch.context() as patch:
        patch.setattr("stplm.tasks.embed_parts.encode_block", lambda *_: pytest.fail("made again"))
        runs = embed_sections(cohort[:1], out)
    assert [run.state for run in runs] == ["done"]
    _assert_as_in_one_go(cohort[0], out / "tall" / "cells.h5ad")


def test_pieces_of_another_setting_are_not_taken(cohort: list[Path], tmp_path: Path) -> None:
    out = tmp_path / "out"
    _, stop = _stops(out, 6)
    with pytest.raises(Cancelled):
        embed_sections(cohort[:1], out, neighbours=False, progress=stop)
    embed_sections(cohort[:1], out)
    _assert_as_in_one_go(cohort[0], out / "tall" / "cells.h5ad")


def test_a_broken_section_costs_only_itself(cohort: list[Path], tmp_path: Path) -> None:
    cohort[0].write_bytes(cohort[0].read_bytes()[:3000])
    runs = embed_sections(cohort, tmp_path / "out")
    assert [run.state for run in runs] == ["failed", "done"]
    assert "tall.h5ad" in str(runs[0].error)
    with pytest.raises(ModelError, match="no model"):
        embed_sections(cohort, tmp_path / "out", "nothing")


def test_an_adapted_model_goes_with_its_section(
    cohort: list[Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(adapt.STEPS, "tissue", 3)
    embed_sections(cohort[:1], tmp_path / "out", adapt=True)
    _assert_as_in_one_go(cohort[0], tmp_path / "out" / "tall" / "cells.h5ad", "--adapt")


def _address(client: Client) -> str:
    return str(client.scheduler.address)


def _kill_a_busy_worker(client: Client, pids: dict[str, int]) -> None:
    """SIGKILL to a worker that has a piece in hand."""
    patience = time.monotonic() + 20
    while time.monotonic() < patience:
        if busy := [worker for worker, tasks in client.processing().items() if tasks]:
            os.kill(pids[busy[0]], signal.SIGKILL)
            return
    pytest.fail("no worker was busy")


def test_a_killed_worker_loses_nothing(
    cohort: list[Path], client: Client, small_rank: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(encode, "BLOCK", 25)
    out, record, pids = tmp_path / "out", dict[str, set[tuple[int, int]]](), client.run(os.getpid)

    def progress(done: int, total: int) -> None:
        for name, piece in _parts(out).items():
            record.setdefault(name, set()).add(piece)
        if len(record) >= 3 and pids:
            _kill_a_busy_worker(client, pids)
            pids.clear()

    runs = embed_sections(cohort, out, small_rank, scheduler=_address(client), progress=progress)
    assert not pids
    assert [run.state for run in runs] == ["done", "done"]
    # No piece was ever replaced by another.
    assert len([name for name in record if name.startswith("tall.parts/own")]) == 46
    assert all(len(pieces) == 1 for pieces in record.values())
    for path in cohort:
        _assert_as_in_one_go(path, out / path.stem / "cells.h5ad", "--model", small_rank)


def test_a_killed_run_is_taken_up_by_workers(
    cohort: list[Path], client: Client, small_rank: Path, tmp_path: Path
) -> None:
    """The whole command dies; what it had finished is not made again by the next one."""
    out = tmp_path / "out"
    ends_by_sigkill(embed_until_killed, cohort[0], out, small_rank)
    before, record = _parts(out), dict[str, set[tuple[int, int]]]()
    assert 4 <= len(before) < 12

    def progress(done: int, total: int) -> None:
        for name, piece in _parts(out).items():
            record.setdefault(name, set()).add(piece)

    runs = embed_sections(cohort[:1], out, small_rank, scheduler=_address(client), progress=progress)
    assert [run.state for run in runs] == ["done"]
    assert {name: record[name] for name in before} == {name: {piece} for name, piece in before.items()}
    _assert_as_in_one_go(cohort[0], out / "tall" / "cells.h5ad", "--model", small_rank)


def test_the_command_line_embeds_and_tokenises_a_cohort(
    cohort: list[Path], client: Client, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    pattern, where = str(cohort[0].parent / "*"), ["--scheduler", _address(client)]
    (cohort[0].parent / "notes.txt").write_text("none")
    assert cli.main(["embed", "--sections", pattern, "--out", str(tmp_path / "out"), *where]) == 0
    said = capsys.readouterr().out
    assert "left out: notes.txt" in said
    assert "2 done, 0 done before, 0 failed" in said
    _assert_as_in_one_go(cohort[0], tmp_path / "out" / "tall" / "cells.h5ad")
    for done in ("2 done, 0 done before", "0 done, 2 done before"):
        assert cli.main(["tokenize", "--sections", pattern, "--out", str(tmp_path / "tokens"), *where]) == 0
        assert done in capsys.readouterr().out
    tokens, whole = RankTokens.load(tmp_path / "tokens" / "tall"), stplm.rank_encode(ad.read_h5ad(cohort[0]))
    assert (tokens.ids == whole.ids).all()
    assert (tokens.offsets == whole.offsets).all()


@pytest.mark.parametrize(
    ("words", "told"),
    [
        ([], "Give one section, or --sections"),
        (["a.h5ad", "--sections", "b.h5ad"], "Give one section, or --sections"),
        (["a.h5ad", "--workers", "2"], "Workers are for --sections"),
    ],
)
def test_what_makes_no_sense_is_told(words: list[str], told: str, capsys: pytest.CaptureFixture[str]) -> None:
    for task in ("embed", "tokenize"):
        assert cli.main([task, *words, "--out", "nowhere"]) == 1
        assert told in capsys.readouterr().err
