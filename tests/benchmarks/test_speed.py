"""The table of speed and scale: rows merged run by run, what it shows, and that references are what they say."""

from __future__ import annotations

import importlib
from pathlib import Path

import numpy as np
import pytest

from benchmarks import results, run, vectors
from benchmarks.rows import Row, fill_growth, memory
from benchmarks.sections import Sections
from benchmarks.speed import graph, opening, prediction, reading, tokens, umap, window
from stplm import keys


@pytest.fixture(scope="session")
def sections(tmp_path_factory: pytest.TempPathFactory) -> Sections:
    return Sections(tmp_path_factory.mktemp("sections"))


def row(name: str, cells: int, ours: float | None, module: str = "graph", **more: object) -> Row:
    return Row(name, cells, ours, None, "s", module=module, **more)


def test_a_run_replaces_its_own_rows_and_keeps_other_sizes_modules_and_what_cannot_be_measured_here() -> None:
    old = [
        row("a", 10, 1.0),
        row("a", 100, 9.0),
        row("gone", 10, 1.0),
        row("gpu", 10, 2.0),
        row("b", 10, 3.0, "tokens"),
    ]
    new = [row("a", 10, 2.0), row("gpu", 10, None, note="No GPU.")]
    merged = results.merge(old, new, "graph", [10])
    assert [(r.name, r.cells, r.ours) for r in merged] == [
        ("a", 10, 2.0),
        ("a", 100, 9.0),
        ("gpu", 10, 2.0),
        ("b", 10, 3.0),
    ]
    assert merged[0].growth == pytest.approx(np.log10(4.5))


def test_rows_survive_the_file_and_the_table_says_what_was_not_measured(tmp_path: Path) -> None:
    rows = [
        Row("graph", 1000, 0.5, 100.0, "s", agrees=True, bar="≤ 1 s", met=True, reference_cells=10, note="Least of 3."),
        Row("embedding", 1000, None, None, "cells/s", note="No GPU here."),
    ]
    results.save(tmp_path / "rows.json", rows)
    assert results.load(tmp_path / "rows.json") == rows
    text = results.shown(rows)
    assert "| graph [1] | 1,000 | 0.5 s | 100 s (from 10 cells) | 200 | – | yes | – | ≤ 1 s | yes |" in text
    assert "| embedding [2] | 1,000 | not measured | – |" in text
    assert "2. No GPU here." in text


def test_ratio_says_how_many_times_better_whichever_way_is_better() -> None:
    assert Row("a", 1, 2.0, 10.0, "s").ratio == 5
    assert Row("a", 1, 10.0, 2.0, "cells/s").ratio == 5
    rows = [Row("a", n, n / (n / 1000) ** 2, None, "cells/s") for n in (1000, 10_000)]
    fill_growth(rows)
    assert rows[0].growth == pytest.approx(2)


def test_peak_memory_is_that_of_the_stretch() -> None:
    with memory() as first:
        np.ones(20_000_000).sum()
    with memory() as second:
        np.ones(1000).sum()
    assert first.grown_mb > 140
    assert second.grown_mb < 40


def test_the_runner_writes_rows_and_page_and_goes_on_past_a_module_that_fails(
    sections: Sections, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    page, out = tmp_path / "page.md", tmp_path / "results.json"
    page.write_text("<!-- measured by benchmarks/run.py -->\n<!-- end of what was measured -->\n", encoding="utf-8")
    monkeypatch.setattr(run, "modules", lambda: ["broken", "graph"])
    monkeypatch.setattr(
        run, "run_apart", lambda name, *_: None if name == "broken" else [row("a", 60, 1.0, machine="2 cores")]
    )
    assert (
        run.main(["--sizes", "60", "--results", str(out), "--docs", str(page), "--sections", str(sections.folder)]) == 1
    )
    assert [r.name for r in results.load(out)] == ["a"]
    assert "| a | 60 | 1 s |" in page.read_text(encoding="utf-8")
    with pytest.raises(SystemExit, match="no module nothing"):
        run.main(["--only", "nothing"])


def test_every_module_of_speed_can_be_run() -> None:
    assert "graph" in run.modules()
    for name in run.modules():
        assert callable(importlib.import_module(f"benchmarks.speed.{name}").measure)


def test_the_graph_agrees_with_brute_force(sections: Sections, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(graph, "REFERENCE_CELLS", 120)
    rows = graph.measure(sections, (120,))
    assert [r.agrees for r in rows] == [True, True]
    assert all(r.ours and r.reference and r.peak_mb for r in rows)
    xy = graph.positions(sections, 120)
    swapped = xy.copy()
    swapped[[0, 100]] = swapped[[100, 0]]
    found = graph.neighbours.nearest(swapped, 10)
    assert not graph.same_nearest(graph.neighbour_graph(xy, k=10), *found)


def test_tokens_agree_with_the_loop_over_cells_and_a_wrong_order_is_seen(
    sections: Sections, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tokens, "REFERENCE_CELLS", 150)
    rows = tokens.measure(sections, (150,))
    assert {r.agrees for r in rows} == {True}
    table = sections.table(150, tokens.MULTI)
    theirs = tokens.by_reference(table)
    found = tokens.encode(table)
    found.ids[1 : found.offsets[1]] = found.ids[1 : found.offsets[1]][::-1].copy()
    assert not tokens.same(table, found, theirs)
    assert not tokens.same(table, tokens.encode(table[:149]), theirs)


def test_reading_agrees_with_spatialdata_io_and_a_changed_count_is_seen(sections: Sections) -> None:
    rows = reading.measure(sections, (150,))
    assert [row.agrees for row in rows] == [True, True, True]
    table = reading.ours(sections.bundle(150, tokens.MULTI))
    theirs = reading.by_spatialdata_io(sections.bundle(150, tokens.MULTI))
    table.X.data[3] += 1
    assert not reading.same(table, theirs)


def test_calls_and_map_are_measured_on_vectors_of_like_cells(
    sections: Sections, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(vectors, "SOURCE_CELLS", 400)
    vectors.source.cache_clear()
    table, truth = vectors.embedded(sections, 500)
    assert table.obsm[keys.X_STPLM].shape[0] == len(truth) == 500
    called, unknown, features = prediction.measure(sections, (500,))
    assert called.agrees
    assert called.reference_cells == 500
    assert (unknown.reference, features.reference) == (None, None)
    # Neither umap-learn nor our own map is compiled here: what is measured of them is.
    monkeypatch.setattr(umap, "by_umap_learn", lambda points: points[:, :2])
    monkeypatch.setattr(umap, "map_vectors", lambda points, groups=None, **_: points[:, :2])
    placed, wait = umap.measure(sections, (500,))
    assert placed.agrees
    assert placed.ratio is not None
    assert wait.unit == "ms"
    vectors.source.cache_clear()


def test_rows_of_the_window_keep_their_bars(sections: Sections, monkeypatch: pytest.MonkeyPatch) -> None:
    found = {"name": "embedded", "cells": 9, "ours": 5.0, "unit": "cells/s", "bar": 10, "reference": None}
    row = window.as_row({**found, "ratio": None, "peak_mb": 3, "agrees": None, "cpu": None})
    assert (row.bar, row.met, row.peak_mb) == ("≥ 10 cells/s", False, 3.0)
    assert window.measure(sections, (10_000,)) == []
    monkeypatch.setattr(window.shutil, "which", lambda name: None)
    for module in (window, opening):
        (missing,) = module.measure(sections, (100_000,))
        assert missing.ours is None
        assert "xvfb-run" in missing.note
