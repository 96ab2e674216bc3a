"""Classes, labels, undo and the journal: what an annotator would notice."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from stplm.errors import LabelError
from stplm_napari import journal as journal_module
from stplm_napari.annotations import Annotations
from stplm_napari.changes import CellClass
from stplm_napari.journal import Journal, journal_path

START = (CellClass("Tumour", "#D55E00", "1", True), CellClass("Stromal", "#009E73", "2"))


@pytest.fixture
def annotations(tmp_path: Path) -> Annotations:
    return Annotations([f"c{i}" for i in range(10)], Journal(tmp_path / "a.jsonl"), START)


def test_a_cell_keeps_its_latest_label_with_who_and_when(annotations: Annotations) -> None:
    annotations.set_labels(["c1", "c2"], "Tumour")
    annotations.set_labels(["c2"], "Stromal")
    assert annotations.series().to_dict() == {"c1": "Tumour", "c2": "Stromal"}
    assert annotations.counts() == {"Tumour": 1, "Stromal": 1}
    row = annotations.table().set_index("cell_id").loc["c1"]
    assert row["annotator"] == journal_module.annotator()
    assert row["time"].endswith("+00:00")


def test_undo_and_redo_go_through_every_kind_of_action(annotations: Annotations) -> None:
    annotations.set_labels(["c1", "c2"], "Tumour")
    annotations.set_labels(["c1"], "Stromal")
    annotations.add_class("T cell")
    annotations.set_labels(["c3"], "T cell")
    annotations.change_class("T cell", new_name="Lymphocyte", colour="#123456")
    annotations.clear_labels(["c2"])
    annotations.merge_classes("Lymphocyte", "Stromal")
    annotations.remove_class("Tumour")
    end = (annotations.classes, dict(annotations.labels))
    seen = []
    while annotations.can_undo:
        seen.append((annotations.classes, dict(annotations.labels)))
        annotations.undo()
    assert annotations.classes == START
    assert not annotations.labels
    for state in reversed(seen):
        annotations.redo()
        assert (annotations.classes, dict(annotations.labels)) == state
    assert (annotations.classes, dict(annotations.labels)) == end
    assert end[1]["c3"].name == "Stromal"


def test_a_new_action_forgets_what_was_undone(annotations: Annotations) -> None:
    annotations.set_labels(["c1"], "Tumour")
    annotations.undo()
    annotations.set_labels(["c2"], "Tumour")
    assert annotations.redo() is None
    assert annotations.series().to_dict() == {"c2": "Tumour"}


def test_new_classes_get_a_free_key_a_free_colour_and_a_tumour_flag(annotations: Annotations) -> None:
    dcis, mast = annotations.add_class("DCIS"), annotations.add_class("Mast cell")
    assert (dcis.key, dcis.tumour, mast.key, mast.tumour) == ("3", True, "4", False)
    assert len({c.colour for c in annotations.classes}) == 4
    annotations.change_class("Mast cell", key="1")
    assert [c.key for c in annotations.classes] == ["", "2", "3", "1"]


@pytest.mark.parametrize(
    ("action", "words"),
    [
        (lambda a: a.set_labels(["c1"], "Neuron"), "no class 'Neuron'"),
        (lambda a: a.set_labels(["nobody"], "Tumour"), "not in this section"),
        (lambda a: a.add_class(" Tumour "), "already"),
        (lambda a: a.add_class("  "), "needs a name"),
        (lambda a: a.change_class("Stromal", new_name="Tumour"), "already"),
        (lambda a: a.change_class("Stromal", size=3), "a tumour flag"),
        (lambda a: a.merge_classes("Tumour", "Tumour"), "itself"),
    ],
)
def test_what_makes_no_sense_is_refused_and_changes_nothing(annotations: Annotations, action, words: str) -> None:
    with pytest.raises(LabelError, match=words):
        action(annotations)
    assert annotations.classes == START
    assert annotations.can_undo is None


def test_an_action_without_effect_is_no_undo_step(annotations: Annotations) -> None:
    annotations.clear_labels(["c1"])
    annotations.set_labels(["c1"], "Tumour")
    annotations.set_labels(["c1"], "Tumour")
    annotations.undo()
    assert annotations.can_undo is None


def test_the_journal_brings_back_labels_classes_and_undo(tmp_path: Path) -> None:
    first = Annotations(None, Journal(tmp_path / "a.jsonl"), START)
    first.set_labels(["c1"], "Tumour")
    first.change_class("Stromal", new_name="Fibroblast", colour="#000000")
    first.set_labels(["c2"], "Fibroblast")
    first.undo()
    again = Annotations(None, Journal(tmp_path / "a.jsonl"), [CellClass("Another default", "#FFFFFF")])
    assert again.classes == first.classes
    assert again.labels == first.labels
    again.redo()
    assert again.series().to_dict() == {"c1": "Tumour", "c2": "Fibroblast"}


def test_labels_survive_a_kill(tmp_path: Path) -> None:
    code = (
        "import os, sys, signal\n"
        "from stplm_napari.annotations import Annotations\n"
        "from stplm_napari.changes import CellClass\n"
        "from stplm_napari.journal import Journal\n"
        "a = Annotations(None, Journal(sys.argv[1]), [CellClass('Tumour', '#D55E00')])\n"
        "for i in range(20):\n"
        "    a.set_labels([f'c{i}'], 'Tumour')\n"
        "os.kill(os.getpid(), signal.SIGKILL)\n"
    )
    path = tmp_path / "a.jsonl"
    done = subprocess.run([sys.executable, "-c", code, str(path)], check=False)
    assert done.returncode == -signal.SIGKILL
    assert len(Annotations(None, Journal(path), START).labels) == 20


SQUARE = [(0.0, 0.0), (10.0, 0.0), (10.0, 10.0), (0.0, 10.0)]


def test_a_hundred_thousand_labels_are_one_step_one_line_and_quick(tmp_path: Path) -> None:
    ids = pd.Index([f"cell{i:07d}-1" for i in range(300_000)], dtype=object)
    ids.get_indexer(ids[:1])
    path, rows = tmp_path / "a.jsonl", np.flatnonzero(np.arange(300_000) % 3)[:100_000]
    first = Annotations(ids, Journal(path), START)
    first.set_labels([ids[1], ids[2]], "Stromal")
    times = []
    for name in ("Tumour", "Stromal", "Tumour"):
        start = time.perf_counter()
        first.set_labels(first.labels.cells_at(rows), name)
        times.append(time.perf_counter() - start)
    assert min(times) < 0.3
    assert first.counts() == {"Tumour": 100_000}
    lines = path.read_bytes().splitlines()
    assert len(lines) == 5
    assert max(map(len, lines)) < 500_000
    assert Annotations(ids[::-1], Journal(path)).series().to_dict() == first.series().to_dict(), "whatever the order"
    first.undo()
    first.undo()
    first.undo()
    assert first.series().to_dict() == {ids[1]: "Stromal", ids[2]: "Stromal"}
    first.redo()
    assert len(Annotations(ids, Journal(path)).labels) == 100_000


@pytest.mark.parametrize("names", [("a", "bb", "zelle-1"), ("µ", "zelle ü"), ("1", "22")])
def test_ids_of_any_kind_are_packed(names: tuple[str, ...]) -> None:
    from stplm_napari.packing import pack, unpack

    cells = [f"{names[i % len(names)]}{i}" for i in range(1000)]
    assert unpack(json.loads(json.dumps(pack(cells)))) == cells
    damaged = pack(cells)
    damaged["columns"] = damaged["columns"][:40]
    with pytest.raises(ValueError, match="damaged"):
        unpack(damaged)


def test_of_many_cells_only_those_that_are_gone_are_left_out(tmp_path: Path) -> None:
    ids = [f"c{i}" for i in range(1000)]
    Annotations(ids, Journal(tmp_path / "a.jsonl"), START).set_labels(ids, "Tumour")
    again = Annotations(ids[:990], Journal(tmp_path / "a.jsonl"))
    assert (len(again.labels), again.not_restored) == (990, 10)


def test_regions_are_undone_kept_and_follow_their_class(annotations: Annotations) -> None:
    annotations.add_region(SQUARE, class_name="Tumour", note="  high grade ")
    annotations.add_region([SQUARE, [(2, 2), (4, 2), (4, 4)]], class_name="Tumour")
    annotations.change_class("Tumour", new_name="DCIS")
    annotations.change_region("Tumour 1", new_name="Left duct")
    annotations.merge_classes("DCIS", "Stromal")
    first, second = annotations.regions
    assert (first.name, first.class_name, first.note) == ("Left duct", "Stromal", "high grade")
    assert (second.name, second.class_name) == ("Tumour 2", "Stromal")
    assert (first.area_um2, second.area_um2) == (100, 98)
    assert first.by == journal_module.annotator()
    again = Annotations(None, Journal(annotations.journal.path))
    assert again.regions == annotations.regions
    annotations.undo()
    assert {r.class_name for r in annotations.regions} == {"DCIS"}
    annotations.remove_class("DCIS")
    assert {r.class_name for r in annotations.regions} == {""}
    annotations.remove_region("Left duct")
    while annotations.undo():
        pass
    assert not annotations.regions
    while annotations.redo():
        pass
    assert [r.name for r in annotations.regions] == ["Tumour 2"]


@pytest.mark.parametrize(
    ("action", "words"),
    [
        (lambda a: a.add_region(SQUARE[:2]), "three corners"),
        (lambda a: a.add_region([(0, 0), (1, float("nan")), (1, 1)]), "finite"),
        (lambda a: a.add_region(SQUARE, class_name="Neuron"), "no class"),
        (lambda a: a.change_region("x", note="n"), "no region"),
    ],
)
def test_a_region_that_makes_no_sense_is_refused(annotations: Annotations, action, words: str) -> None:
    with pytest.raises(LabelError, match=words):
        action(annotations)
    assert annotations.can_undo is None
    assert not annotations.regions


def test_the_annotator_can_sign_with_another_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, annotations: Annotations
) -> None:
    monkeypatch.setenv("STPLM_DATA_DIR", str(tmp_path / "mine"))
    journal_module.choose_annotator("Dr  Ada Lovelace")
    annotations.set_labels(["c1"], "Tumour")
    annotations.undo()
    label, undo = (json.loads(line) for line in annotations.journal.path.read_text().splitlines()[1:])
    assert (label["by"], undo["by"]) == ("Dr Ada Lovelace",) * 2
    assert undo["at"].endswith("+00:00")
    journal_module.choose_annotator("")
    assert journal_module.annotator() != "Dr Ada Lovelace"


def test_a_line_cut_short_costs_that_line_only(tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"
    first = Annotations(None, Journal(path), START)
    first.set_labels(["c1"], "Tumour")
    first.set_labels(["c2"], "Tumour")
    path.write_bytes(path.read_bytes()[:-9])
    second = Annotations(None, Journal(path), START)
    assert list(second.labels) == ["c1"]
    second.set_labels(["c3"], "Stromal")
    assert Annotations(None, Journal(path), START).series().to_dict() == {"c1": "Tumour", "c3": "Stromal"}


def test_labels_of_cells_that_are_gone_are_left_out_and_counted(tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"
    first = Annotations(None, Journal(path), START)
    first.set_labels(["c1"], "Tumour")
    first.set_labels(["gone"], "Tumour")
    second = Annotations(["c1"], Journal(path), START)
    assert list(second.labels) == ["c1"]
    assert second.not_restored == 1


def test_a_disk_that_fails_is_reported_and_nothing_is_lost(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "a.jsonl"
    annotations = Annotations(None, Journal(path), START)
    problems = []
    annotations.save_failed.connect(problems.append)

    def full(descriptor: int) -> None:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", full)
        annotations.set_labels(["c1"], "Tumour")
    assert "not being saved" in str(problems[0])
    annotations.set_labels(["c2"], "Tumour")
    assert len(problems) == 1
    assert list(Annotations(None, Journal(path), START).labels) == ["c1", "c2"]


def test_the_journal_lies_beside_the_section_or_in_the_users_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("STPLM_DATA_DIR", str(tmp_path / "mine"))
    (tmp_path / "outs").mkdir()
    assert journal_path(tmp_path / "outs") == tmp_path / "outs.stplm-labels.jsonl"
    monkeypatch.setattr(journal_module, "_can_write", lambda folder: False)
    path = journal_path(tmp_path / "outs")
    assert path.is_relative_to(tmp_path / "mine")
    assert path == journal_path(tmp_path / "outs")


def test_each_line_of_the_journal_is_json_anyone_can_read(annotations: Annotations) -> None:
    annotations.set_labels(["c1"], "Tumour")
    lines = [json.loads(line) for line in annotations.journal.path.read_text().splitlines()]
    assert lines[0]["classes"][0]["name"] == "Tumour"
    assert lines[1]["step"] == "set_labels"
    assert lines[1]["params"] == {"cells": ["c1"], "name": "Tumour"}
