"""What is open, what is stale, what was done: the session without a window."""

from __future__ import annotations

import gc
from pathlib import Path

import anndata
import numpy as np
import pandas as pd
import pytest

from stplm import keys
from stplm.errors import LabelError, SectionError
from stplm_napari.results import Result, snapshot
from stplm_napari.session import CELLS, CLASS, CLUSTER, TUMOUR, Embedding, Prediction, Revision, Session
from stplm_napari.steps import Step


class FakeViewer:
    """Something that a session can belong to."""


def make_table(n: int = 6) -> anndata.AnnData:
    names = [f"c{i}" for i in range(n)]
    obs = pd.DataFrame({keys.CELL_ID: names, keys.N_COUNTS: np.arange(n) * 10}, index=names)
    return anndata.AnnData(np.ones((n, 2), np.int32), obs=obs, uns={keys.UNS: {keys.UNS_QC: {"n_low": 1}}})


def embedded(n: int = 6) -> Result:
    return Result(
        {keys.CLUSTER: pd.Series(pd.Categorical(["1", "2"] * (n // 2)))},
        {keys.X_STPLM: np.ones((n, 3), np.float32)},
        {keys.UNS_EMBEDDING: {"model": "m"}},
    )


def predicted(names: list[str], tumour: list[str]) -> Result:
    n = len(names)
    return Result(
        {
            keys.CLASS: pd.Series(pd.Categorical(names)),
            keys.CONFIDENCE: pd.Series(np.full(n, 0.9, np.float32)),
            keys.TUMOUR: pd.Series(np.array([name in tumour for name in names], np.float32)),
        },
        {},
        {keys.UNS_PREDICTION: {"classes": sorted(set(names)), "tumour_classes": tumour}},
    )


def put_prediction(session: Session, revision: Revision | None = None, names: list[str] | None = None) -> bool:
    made = Prediction("2 labels of yours", 2, "m", "12:00", revision or session.revision)
    result = predicted(names or ["Tumour", "Stromal"] * 3, ["Tumour"])
    return session.put_prediction(result, None, made, Step("classify"))


@pytest.fixture
def session(tmp_path: Path) -> Session:
    session = Session()
    session.open(object(), make_table(), path=tmp_path / "outs")
    return session


def test_each_viewer_has_its_own_session_which_goes_with_it() -> None:
    one, two = FakeViewer(), FakeViewer()
    assert Session.of(one) is Session.of(one)
    assert Session.of(one) is not Session.of(two)
    before = len(Session._of)
    del one
    gc.collect()
    assert len(Session._of) == before - 1


def test_without_a_section_the_table_says_what_to_do() -> None:
    with pytest.raises(SectionError, match="Section dock"):
        _ = Session().table


def test_labels_come_back_when_the_section_is_opened_again(session: Session, tmp_path: Path) -> None:
    session.choose_class("Stromal")
    session.label(["c1"])
    again = Session()
    again.open(object(), make_table(), path=tmp_path / "outs")
    assert again.annotations.series().to_dict() == {"c1": "Stromal"}


def test_an_embedding_of_another_section_is_dropped(session: Session) -> None:
    made_from = session.revision
    session.open(object(), make_table())
    assert not session.put_embedding(embedded(), made_from, Embedding("m", "12:00", 1), Step("embed"))
    assert not session.is_embedded
    assert session.put_embedding(embedded(), session.revision, Embedding("m", "12:00", 1), Step("embed"))
    assert session.colouring.by == CLUSTER


@pytest.mark.parametrize("what", ["embedding", "rename", "tumour flag", "section"])
def test_a_prediction_that_no_longer_fits_is_dropped(session: Session, what: str) -> None:
    session.label(["c1"], "Tumour")
    made_from = session.revision
    if what == "embedding":
        session.put_embedding(embedded(), session.revision, Embedding("m", "12:00", 1), Step("embed"))
    elif what == "rename":
        session.annotations.change_class("Tumour", new_name="DCIS")
    elif what == "tumour flag":
        session.annotations.change_class("Tumour", tumour=False)
    else:
        session.open(object(), make_table())
    assert not put_prediction(session, made_from)
    assert not session.is_predicted


def test_a_prediction_says_when_it_is_out_of_date(session: Session) -> None:
    session.label(["c1"], "Tumour")
    put_prediction(session)
    assert session.outdated == ""
    session.annotations.add_class("Mast cell")
    assert session.outdated == ""
    session.label(["c2"], "Stromal")
    assert session.outdated == "labels changed since"
    session.annotations.change_class("Tumour", tumour=False)
    assert session.outdated == "the classes changed since"


def test_a_renamed_class_keeps_its_predicted_cells(session: Session) -> None:
    put_prediction(session)
    session.annotations.change_class("Tumour", new_name="DCIS")
    assert session.predicted_counts() == {"DCIS": 3, "Stromal": 3}
    assert session.outdated == ""
    session.annotations.undo()
    assert session.predicted_counts() == {"Tumour": 3, "Stromal": 3}


def test_classes_of_a_prediction_join_the_list_and_become_the_users_when_used(session: Session) -> None:
    put_prediction(session, names=["Tumour", "Plasma", "Plasma", "Mast", "Mast", "DCIS"])
    names = [c.name for c in session.classes]
    assert names[-3:] == ["DCIS", "Mast", "Plasma"]
    assert len({c.colour.upper() for c in session.classes}) == len(names)
    colour = next(c.colour for c in session.classes if c.name == "Plasma")
    session.label(["c3"], "Plasma")
    assert session.annotations.get("Plasma").colour == colour


def test_the_first_prediction_colours_by_class_and_later_ones_leave_the_choice_alone(session: Session) -> None:
    assert session.colouring.by == CELLS
    put_prediction(session)
    assert session.colouring.by == CLASS
    session.colour(by=TUMOUR)
    put_prediction(session)
    assert session.colouring.by == TUMOUR


def test_the_chosen_class_survives_a_rename_and_not_a_removal(session: Session) -> None:
    session.choose_class("Tumour")
    session.annotations.change_class("Tumour", new_name="DCIS")
    assert session.active_class == "DCIS"
    session.annotations.remove_class("DCIS")
    assert session.active_class == session.annotations.classes[0].name
    for found in session.annotations.classes:
        session.annotations.remove_class(found.name)
    with pytest.raises(LabelError, match="No class is chosen"):
        session.label(["c1"])


def test_a_task_on_a_snapshot_leaves_the_section_alone() -> None:
    table = make_table()
    copy = snapshot(table)
    copy.obs["new"] = 1
    copy.uns[keys.UNS][keys.UNS_QC]["n_low"] = 99
    assert "new" not in table.obs
    assert table.uns[keys.UNS][keys.UNS_QC]["n_low"] == 1
    assert copy.X is table.X


def test_results_go_through_files_unchanged(tmp_path: Path) -> None:
    table = make_table()
    embedded().put_into(table)
    predicted(["Tumour", "Stromal"] * 3, ["Tumour"]).put_into(table)
    table.obs[keys.CLASS] = (
        table.obs[keys.CLASS].cat.set_categories(["Tumour", "Stromal"]).where(table.obs_names != "c0")
    )
    for result in (Result.embedding_of(table), Result.prediction_of(table)):
        result.save(tmp_path)
        back = make_table()
        Result.load(tmp_path).put_into(back)
        for name in result.obs:
            assert back.obs[name].equals(table.obs[name])
        for name in result.obsm:
            assert np.array_equal(back.obsm[name], table.obsm[name])
        assert back.uns[keys.UNS].items() >= dict(result.uns).items()


def test_the_steps_of_a_session_are_what_was_run(session: Session, tmp_path: Path) -> None:
    session.put_embedding(embedded(), session.revision, Embedding("m", "12:00", 1), Step("embed", {"model": "m"}))
    put_prediction(session)
    put_prediction(session)
    assert [s.name for s in session.steps] == ["open", "embed", "classify"]
    assert Step.from_json(session.steps[1].to_json()) == session.steps[1]
