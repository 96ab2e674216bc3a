"""What a session did, as a script and a notebook that give the same without a window."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import anndata
import numpy as np
import pytest

import stplm
from stplm import cli, keys
from stplm.errors import ExportError
from stplm.paths import resource
from stplm.tasks.classifier import Classifier
from stplm.tasks.cohort import read_run_recipe
from stplm_napari import replay, tasks
from stplm_napari.changes import CellClass
from stplm_napari.recipe import recipe_of, write_recipe
from stplm_napari.recording import steps_now
from stplm_napari.results import Result, snapshot
from stplm_napari.runs import KeptModel, keep_adapted
from stplm_napari.script import INLINE, notebook, script, write_script, writes
from stplm_napari.session import Embedding, Prediction, Session
from stplm_napari.steps import Step

EMBED = {"model": "default", "device": "auto", "adapt": False, "neighbours": True, "seed": 0}


@pytest.fixture(scope="module")
def embedded() -> tuple[Any, Any]:
    section = stplm.read_section(resource("demo_section"))
    table = stplm.cell_table(section)
    tasks.embed(table, EMBED)
    return section, table


@pytest.fixture
def session(embedded: tuple[Any, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Session:
    """The demo section, embedded by a recorded step."""
    monkeypatch.setenv("STPLM_DATA_DIR", str(tmp_path / "data"))
    section, table = embedded
    session = Session()
    session.open(section, snapshot(table), path=resource("demo_section"))
    result = Result.embedding_of(table)
    session.put_embedding(result, session.revision, Embedding("m", "12:00", 1.0), Step("embed", EMBED))
    return session


def classify(session: Session, source: str = tasks.FROM_LABELS, **more: Any) -> None:
    """As the workspace does it."""
    own = session.annotations.by_class()
    flags = {c.name: c.tumour for c in session.classes}
    step = Step("classify", {"source": source, **more, "labels": own, "tumour": flags, "seed": 0})
    table = snapshot(session.table)
    classifier, labels = tasks.classify(table, step.params)
    made = Prediction("", len(labels), "m", "12:00", session.revision)
    assert session.put_prediction(Result.prediction_of(table), classifier, made, step)


def run(path: Path, out: Path) -> anndata.AnnData:
    """Run a script in a process of its own that has no display."""
    bare = {k: v for k, v in os.environ.items() if k not in ("DISPLAY", "WAYLAND_DISPLAY", "QT_QPA_PLATFORM")}
    root = str(Path(stplm.__file__).parents[1])
    done = subprocess.run(
        [sys.executable, str(path), str(out)],
        cwd=path.parent.parent,
        env={**bare, "PYTHONPATH": root},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return anndata.read_h5ad(out)


def same(back: anndata.AnnData, session: Session) -> None:
    """Classes and probabilities to the last bit."""
    table = session.table
    assert list(back.obs[keys.CLASS].cat.categories) == list(table.obs[keys.CLASS].cat.categories)
    for name in (keys.CLASS, keys.LABEL):
        if name in table.obs:
            assert back.obs[name].astype(str).tolist() == table.obs[name].astype(str).tolist()
    for name in (keys.CONFIDENCE, keys.TUMOUR, keys.UNKNOWN):
        assert back.obs[name].to_numpy().tobytes() == table.obs[name].to_numpy().tobytes()
    for name in (keys.PROBA, keys.X_STPLM):
        assert np.asarray(back.obsm[name]).tobytes() == np.asarray(table.obsm[name]).tobytes()


def test_clicks_undo_and_many_labels_of_an_adapted_embedding_replay_to_the_last_bit(
    session: Session, tmp_path: Path
) -> None:
    """As the window does it, the model is adapted in a process of its own, from a file: a window has other threads."""
    steps = "import importlib, sys\nimportlib.import_module('stplm.tasks.adapt').STEPS['tissue'] = 6\n"
    given, work = {**EMBED, "adapt": True}, tmp_path / "work"
    work.mkdir()
    with anndata.settings.override(allow_write_nullable_strings=True):
        snapshot(session.table).write_h5ad(work / tasks._TABLE)
    call = "from pathlib import Path\nfrom stplm_napari.tasks import embed_in_folder\n"
    call += f"embed_in_folder(Path(sys.argv[1]), {given}, lambda *_: None)"
    root = str(Path(stplm.__file__).parents[1])
    subprocess.run([sys.executable, "-c", steps + call, str(work)], env={**os.environ, "PYTHONPATH": root}, check=True)
    plain = np.asarray(session.table.obsm[keys.X_STPLM]).copy()
    result = Result.load(work)
    assert session.put_embedding(result, session.revision, Embedding("m", "12:00", 1.0), Step("embed", given))
    assert not np.array_equal(session.table.obsm[keys.X_STPLM], plain)
    for name, part in (seeds := stplm.seed_labels(session.table, per_class=120).dropna()).groupby(seeds):
        if session.annotations.get(str(name)) is None:
            session.annotations.add_class(str(name))
        session.label(list(part.index), str(name))
    session.annotations.change_class("Tumour", colour="#123456", tumour=False)
    wrong = session.annotations.by_class()["Stromal"][0]
    session.label([wrong], "Tumour")
    session.annotations.undo()
    classify(session)
    folder = tmp_path / "here"
    folder.mkdir()
    path = write_script(steps_now(session), folder / "nest.py")
    n_labels = len(session.annotations.labels)
    assert n_labels > INLINE
    assert path.stat().st_size < 4_000
    assert len((folder / "nest.labels.csv").read_text().splitlines()) == n_labels + 1
    text = path.read_text(encoding="utf-8")
    doc, future, rest = text.partition("from __future__ import annotations\n")
    path.write_text(doc + future + steps + rest if future else steps + text, encoding="utf-8")
    back = run(path, tmp_path / "back.h5ad")
    same(back, session)
    assert back.obs[keys.LABEL].dropna().astype(str).to_dict() == session.annotations.series().to_dict()
    place = list(back.obs[keys.LABEL].cat.categories).index("Tumour")
    assert back.uns[f"{keys.LABEL}_colors"][place] == "#123456"
    kept = stplm.load_model(folder / "nest_output" / "adapted")
    assert kept.fingerprint() == stplm.load_model(work / tasks.ADAPTED).fingerprint()


def test_profiles_with_a_few_own_labels_replay_from_a_notebook(
    session: Session, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    session.label(list(session.table.obs_names[:3]), "T cell")
    classify(session, tasks.FROM_PROFILES, profiles="breast", per_class=20)
    (tmp_path / "here").mkdir()
    path = write_script(steps_now(session), tmp_path / "here" / "nest.ipynb")
    document = json.loads(path.read_text(encoding="utf-8"))
    assert (document["nbformat"], document["nbformat_minor"]) == (4, 5)
    assert len({cell["id"] for cell in document["cells"]}) == len(document["cells"])
    code = ["".join(cell["source"]) for cell in document["cells"] if cell["cell_type"] == "code"]
    assert all(cell["source"] for cell in document["cells"])
    monkeypatch.chdir(path.parent)
    space: dict[str, Any] = {}
    for source in code:
        exec(source, space)
    same(space["table"], session)


def test_labels_of_a_column_are_named_not_copied(session: Session) -> None:
    steps = [*session.steps, Step("classify", {"source": "column", "column": "kind", "labels": {}, "tumour": {}})]
    text = script(steps)
    assert "'column': 'kind'" in text
    compile(text, "steps.py", "exec")


def test_labels_changed_after_the_last_fit_are_told_apart(session: Session) -> None:
    names = list(session.table.obs_names)
    session.label(names[:3], "Tumour")
    session.label(names[3:6], "Stromal")
    classify(session)
    assert "changed afterwards" not in script(steps_now(session))
    session.label(names[6:7], "T cell")
    text = script(steps_now(session))
    assert "changed afterwards" in text
    space: dict[str, Any] = {}
    pieces = text.split("labels = ")[1].split("\nreplay.")[0]
    exec(f"labels = {pieces}", space)
    assert space["labels"] == session.annotations.by_class()
    session.annotations.undo()
    assert "changed afterwards" not in script(steps_now(session))


def test_a_step_without_a_writer_costs_nobody_the_script() -> None:
    steps = [Step("open", {"path": "a"}), Step("conjure", {"spell": "x" * 5_000, "at": Path("b")})]
    for text in (script(steps), "\n".join(json.loads(notebook(steps))["cells"][-1]["source"])):
        assert "spell" in text
        assert len(text) < 2_000


def test_a_feature_brings_its_own_lines() -> None:
    from stplm_napari.script import _WRITERS

    @writes("test_spell", "A spell")
    def _spell(params: Any, beside: Any) -> list[str]:
        return [f"cast({params['spell']!r})"]

    try:
        assert "# A spell\ncast('lumos')" in script([Step("test_spell", {"spell": "lumos"})])
    finally:
        del _WRITERS["test_spell"]


def test_large_outlines_lie_beside(tmp_path: Path) -> None:
    ring = np.random.default_rng(0).uniform(0, 1, (3_000, 2)).round(3).tolist()
    step = Step("regions", {"regions": [{"name": "nest", "rings": [ring]}]})
    path = write_script([Step("open", {"path": "a"}), step], tmp_path / "s.py")
    assert path.stat().st_size < 2_000
    assert json.loads((tmp_path / "s.regions.json").read_text())[0]["rings"] == [ring]


def test_class_names_that_trip_careless_writers(tmp_path: Path) -> None:
    labels = {"NA": ["a"] * 300, 'T, "CD8"': ["b", "c"] * 100, "#1": [f"d{i}" for i in range(3)]}
    step = Step("labels", {"classes": [vars(CellClass(n, "#FFFFFF")) for n in labels], "labels": labels})
    write_script([step], tmp_path / "s.py")
    assert replay.labels_from(tmp_path / "s.labels.csv") == labels


def test_a_session_becomes_a_recipe_with_its_classifier_beside_it(session: Session, tmp_path: Path) -> None:
    with pytest.raises(ExportError, match="nothing to do again"):
        recipe_of(session, tmp_path / "r.yaml")
    names = list(session.table.obs_names)
    session.label(names[:3], "Tumour")
    session.label(names[3:6], "Stromal")
    classify(session)
    write_recipe(*recipe_of(session, tmp_path / "r.yaml"), tmp_path / "r.yaml")
    read = read_run_recipe(tmp_path / "r.yaml")
    assert (read.embed.model, read.exports, read.report) == ("default", ("h5ad", "explorer"), True)
    assert read.colours == {c.name: c.colour for c in session.classes if c.name in ("Tumour", "Stromal")}
    back = Classifier.load(tmp_path / "r_classifier")
    assert back.dense.tobytes() == session.classifier.dense.tobytes()
    # A fine-tuned model that was kept is copied beside it.
    (tmp_path / "tuned").mkdir()
    (tmp_path / "tuned" / "config.json").write_text("{}")
    session.classifier = KeptModel(tmp_path / "tuned")
    write_recipe(*recipe_of(session, tmp_path / "t.yaml"), tmp_path / "t.yaml")
    assert (read_run_recipe(tmp_path / "t.yaml").classify.classifier / "config.json").is_file()


def test_the_model_that_was_adapted_goes_with_the_recipe(session: Session, tmp_path: Path) -> None:
    model = stplm.adapt(session.table, steps=2)
    table = stplm.embed(snapshot(session.table), model)
    table.uns[keys.UNS][keys.UNS_EMBEDDING]["adapted"] = True
    step = Step("embed", {**EMBED, "adapt": True})
    result = Result.embedding_of(table)
    assert session.put_embedding(result, session.revision, Embedding("m", "12:00", 1.0), step)
    for name, part in (seeds := stplm.seed_labels(session.table, per_class=4).dropna()).groupby(seeds):
        if session.annotations.get(str(name)) is None:
            session.annotations.add_class(str(name))
        session.label(list(part.index), str(name))
    classify(session)
    with pytest.raises(ExportError, match="is not kept"):
        recipe_of(session, tmp_path / "r.yaml")
    keep_adapted(model.save(tmp_path / "made"), session.path)
    (tmp_path / "there").mkdir()
    path = tmp_path / "there" / "r.yaml"
    write_recipe(*recipe_of(session, path), path)
    assert "model: r_model" in path.read_text(encoding="utf-8")
    moved = (tmp_path / "there").rename(tmp_path / "elsewhere") / "r.yaml"
    words = ["run", moved, "--sections", resource("demo_section"), "--out", tmp_path / "out"]
    assert cli.main([str(word) for word in words]) == 0
    (cells,) = (tmp_path / "out").rglob("*.h5ad")
    there = anndata.read_h5ad(cells)
    assert there.obsm[keys.X_STPLM].tobytes() == session.table.obsm[keys.X_STPLM].tobytes()
    called = session.table.obs[keys.CLASS].astype(str)
    assert (there.obs[keys.CLASS].astype(str).reindex(called.index) == called).mean() > 0.95
