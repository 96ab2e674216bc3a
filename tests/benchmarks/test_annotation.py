"""The few-shot benchmark, without its peers installed: rows, resuming, what a missing peer looks like, the page."""

from __future__ import annotations

import sys
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import scipy.sparse as sp
from anndata import AnnData

import stplm
from benchmarks import ours, protocol, scoring, tables
from benchmarks.methods import Method, all_methods, nearest
from benchmarks.peers import PEERS, Peer, environment, jobs
from stplm import keys

HERE = Path(__file__).resolve().parent


@pytest.fixture
def class_set() -> protocol.ClassSet:
    """Two classes, each with a gene of its own, on both halves of 120 cells."""
    random = np.random.default_rng(0)
    truth = np.array(["A", "B"] * 60, dtype=object)
    rates = np.where(truth[:, None] == "A", [9.0, 1.0, 2.0], [1.0, 9.0, 2.0])
    xy = np.c_[np.linspace(0, 600, 120), np.zeros(120)]
    table = AnnData(sp.csr_matrix(random.poisson(rates).astype(np.float32)), obsm={"spatial": xy})

    def draw(truth: np.ndarray, left: np.ndarray, shots: int | None, seed: int) -> np.ndarray:
        labels, rng = np.full(len(truth), None, dtype=object), np.random.default_rng(seed)
        for name in ("A", "B"):
            cells = np.flatnonzero(left & (truth == name))
            labels[cells if shots is None else rng.choice(cells, shots, replace=False)] = name
        return labels

    left, right = xy[:, 0] < 270, xy[:, 0] > 330
    return protocol.ClassSet("coarse", table, truth, left, right, ("A",), SimpleNamespace(draw=draw))


def interpreter() -> Path:
    return Path(sys.executable)


def test_a_killed_peer_goes_on_where_it_was_and_says_why_draws_are_missing(
    class_set: protocol.ClassSet, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PYTHONPATH", str(HERE))
    monkeypatch.syspath_prepend(HERE)
    method = Method("Commonest", peer=Peer("Commonest", "commonest", "celltypist"))
    monkeypatch.setenv("FAIL_AT", "1")
    (row,) = scoring.compare([method], class_set, [5], 3, tmp_path, interpreter)
    assert "no luck with seed 1" in row.reason
    assert [score["seed"] for score in row.scores["5"]] == [0]
    monkeypatch.delenv("FAIL_AT")
    (row,) = scoring.compare([method], class_set, [5], 3, tmp_path, interpreter)
    assert not row.reason
    assert [score["seed"] for score in row.scores["5"]] == [0, 1, 2]
    assert row.scores["5"][0]["macro_f1"] == pytest.approx(1 / 3, abs=0.01)
    (log,) = tmp_path.glob("prepared/*/seeds")
    assert log.read_text(encoding="utf-8").split() == ["0", "1", "2"]


def test_a_peer_that_cannot_be_installed_is_a_row_with_the_reason(class_set: protocol.ClassSet, tmp_path: Path) -> None:
    def broken() -> Path:
        raise environment.EnvironmentMissing("its environment cannot be made: no such version")

    methods = [Method("STPLM", nearest), Method("Far away", peer=PEERS[0])]
    rows = scoring.compare(methods, class_set, [1, None], 2, tmp_path, broken)
    text = tables.table(rows, "macro_f1", ["1", "all"], 2)
    assert "| Far away: not run, its environment cannot be made: no such version | – | – |" in text
    assert len(rows[0].scores["1"]) == 2
    assert len(rows[0].scores["all"]) == 1
    assert rows[0].scores["all"][0]["macro_f1"] > 0.9


def test_every_peer_and_every_bundled_model_has_a_row() -> None:
    names = [m.name for m in all_methods(SimpleNamespace(logistic=None, pca_logistic=None))]
    assert names[0] == "STPLM"
    assert len(set(names)) == len(names)
    for peer in PEERS:
        assert any(peer.name.split(",")[0] in name and environment.pinned(peer.package) in name for name in names)
    for model in ours.bundled()[1:]:
        assert f"STPLM, model {model}" in names
        assert f"STPLM, model {model}, without neighbours" in names


def test_the_page_shows_means_the_best_and_where_the_default_loses(tmp_path: Path) -> None:
    def row(name: str, *values: float) -> scoring.Row:
        return scoring.Row(name, {"10": [{"seed": i, "macro_f1": v} for i, v in enumerate(values)]})

    rows = [row("STPLM", 0.8, 0.9, 0.85), row("Rival", 0.9, 0.92), row("STPLM, without x", 0.95, 0.95, 0.95)]
    text = tables.section("Title", rows, ["macro_f1"], 3)
    assert "| **STPLM** | 0.850 ± 0.029 |" in text
    assert "| Rival (two draws) | 0.910 ± 0.010 |" in text
    assert "| STPLM, without x | **0.950** ± 0.000 |" in text
    assert "Rival at 10 labels a class: ahead by 0.060 ± 0.040" in text
    assert "without x at 10" not in text
    page = tmp_path / "page.md"
    page.write_text(
        f"before\n<!-- measured by benchmarks/annotation.py -->\nold\n{tables.END}\nafter\n", encoding="utf-8"
    )
    tables.replace_block(page, text)
    written = page.read_text(encoding="utf-8")
    assert "old" not in written
    assert written.startswith("before\n")
    assert written.endswith("\nafter\n")


def test_each_ablation_takes_away_what_its_name_says(demo_path: Path) -> None:
    table = stplm.cell_table(stplm.read_section(demo_path))
    stplm.embed(table, clusters=0)
    labels = np.full(len(table), None, dtype=object)
    seeds = stplm.seed_labels(table, per_class=6).dropna()
    labels[table.obs_names.get_indexer(seeds.index)] = seeds.astype(str)
    found = {}
    for ablation in (ours.default, ours.without_shares, ours.without_unlabelled):
        ablation(table, labels, 0)
        found[ablation] = table.uns[keys.UNS][keys.UNS_PREDICTION]
    shares = {ablation: np.ptp(note["class_shares"]) for ablation, note in found.items()}
    assert shares[ours.without_shares] == 0
    assert min(shares[ours.default], shares[ours.without_unlabelled]) > 0
    assert found[ours.default]["joined"] > 0
    assert found[ours.without_unlabelled]["joined"] == 0
    plain = ours.default(table, labels, 0)
    for ablation in (ours.without_profiles, ours.without_vectors):
        assert (ablation(table, labels, 0) != plain).any()
    assert (ours.default(table, labels, 0) == plain).all()


def test_fine_classes_leave_out_undecided_and_rare_names() -> None:
    named = np.array((["B_Cells"] * 8 + ["Unlabeled", "Stromal_&_T_Cell_Hybrid"]) * 20 + ["Mast_Cells"] * 40, object)
    x = np.r_[np.arange(200) * 5.0, np.full(40, 980.0)]
    truth, left, right = protocol.fine_truth(named, x)
    assert set(truth) == {"B_Cells", None}
    assert x[right].min() - x[left].max() > 60


def test_the_default_names_every_cell_and_reads_the_vectors_that_it_kept(
    demo_path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    table = stplm.cell_table(stplm.read_section(demo_path))[:300].copy()
    labels = np.full(300, None, dtype=object)
    counts = np.asarray(table[:, "EPCAM"].X.todense()).ravel()
    labels[np.argsort(-counts, kind="stable")[:5]] = "Tumour"
    labels[np.flatnonzero(counts == 0)[:5]] = "Other"
    first, second = table.copy(), table.copy()
    ours.embed_once(first, cache=tmp_path)
    called = ours.default(first, labels, 0)
    assert set(called) <= {"Tumour", "Other", keys.UNASSIGNED}
    assert (called[labels == "Tumour"] == "Tumour").all()
    ours._embedded.clear()
    monkeypatch.setattr(stplm, "embed", None)
    ours.embed_once(second, cache=tmp_path)
    assert (ours.default(second, labels, 0) == called).all()
    assert jobs.table_digest(first) == jobs.table_digest(second)
