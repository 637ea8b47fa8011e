import shutil
from pathlib import Path

import polars as pl
import pytest
from streamlit.testing.v1 import AppTest

from robsweep.dashboards.charts import (
    OPEN,
    PENDING,
    PROVED,
    UNASKED,
    bracket_bars,
    bracket_chart,
    label,
)
from robsweep.orchestrator.results.results import TABLES, Results
from robsweep.orchestrator.store.store import Store
from tests.demo_store import whole_sweep

APP = Path(__file__).parents[2] / "dashboards/app.py"
PAGES = ["app_pages/leaderboard.py", "app_pages/tables.py"]


@pytest.fixture(scope="module")
def demo(tmp_path_factory):
    return whole_sweep(tmp_path_factory.mktemp("demo") / "store")


@pytest.fixture
def show(monkeypatch):
    def run(store, page=PAGES[0], **query):
        monkeypatch.setenv("ROBSWEEP_STORE", str(store))
        app = AppTest.from_file(str(APP), default_timeout=30)
        for key, value in query.items():
            app.query_params[key] = value
        app.run()
        if page != PAGES[0]:
            app.switch_page(page).run()
        assert not app.exception
        return app

    return run


@pytest.mark.parametrize("page", PAGES)
def test_no_store(show, tmp_path, page):
    app = show(tmp_path / "nowhere", page)
    assert "No results here" in app.info[0].value
    assert any("robsweep run" in code.value for code in app.code)


@pytest.mark.parametrize("page", PAGES)
def test_empty_store(show, tmp_path, page):
    Store.create(tmp_path / "s")
    app = show(tmp_path / "s", page)
    assert "The store is empty" in app.info[0].value
    assert any(f"--store {tmp_path}" in code.value for code in app.code)


def test_nothing_done_yet(show, tmp_path):
    whole_sweep(tmp_path / "s", done=0.0)
    app = show(tmp_path / "s")
    assert "Nothing measured yet" in app.info[0].value
    assert not app.dataframe


def test_a_populated_store(show, demo):
    app = show(demo.root)
    assert not app.error
    assert not app.info
    assert app.selectbox(key="sweep").value == "mnist-bracket"
    table = app.dataframe[0].value
    assert len(table) == 6 * 3  # linf
    assert "ece_scaled" in table.columns
    assert 90 < table["clean_accuracy"][0] < 100


def test_the_filters_drive_the_table(show, demo):
    app = show(demo.root)
    app.button_group(key="norm").set_value("l2").run()
    app.button_group(key="metrics").set_value(["robust_accuracy"]).run()
    assert not app.exception
    table = app.dataframe[0].value
    assert len(table) == 6 * 2
    assert list(table.columns) == ["Model", "eps", "robust_accuracy", "robust_accuracy_limits"]


def test_the_url_holds_the_state(show, demo):
    app = show(demo.root, norm="L2", metrics=["ECE"])
    assert app.button_group(key="norm").value == "l2"
    assert list(app.dataframe[0].value.columns) == ["Model", "eps", "ece", "ece_limits"]


def test_a_partial_store_shows_progress(show, tmp_path):
    demo = whole_sweep(tmp_path / "s", done=0.5)
    demo.fail(demo.asked[-1]["measurement_id"], 0, 1)
    app = show(tmp_path / "s")
    limits = app.dataframe[0].value["clean_accuracy_limits"]
    assert limits[0].endswith("n=200/400")


def test_an_alarm_is_seen(show, tmp_path):
    whole_sweep(tmp_path / "s", unsound=True)
    app = show(tmp_path / "s")
    assert "1 sample is proved" in app.error[0].value


@pytest.mark.parametrize("name", ["attacks", "calibration", "ood", "shift", "verification"])
def test_every_table(show, demo, name):
    app = show(demo.root, PAGES[1])
    app.button_group(key="table").set_value(name).run()
    app.button_group(key="models").set_value(["wk17a"]).run()
    assert not app.exception
    assert set(app.dataframe[0].value["model"]) == {"wk17a"}


def test_a_vanished_store_says_so(show, demo, tmp_path):
    shutil.copytree(demo.root, tmp_path / "s")
    app = show(tmp_path / "s")
    shutil.rmtree(tmp_path / "s")
    app.run()
    assert "No results here" in app.info[0].value


def test_bars_run_from_proved_to_unbroken(demo):
    board = Results.open(demo.root).leaderboard(demo.name).filter(pl.col("norm") == "linf")
    bars = bracket_bars(board)
    assert len(bars) == 2 * len(board)
    assert (bars.filter(pl.col("part") == PROVED)["start"] == 0).all()
    assert (bars["start"] <= bars["stop"]).all()
    unproved = bars.filter(pl.col("ball") == "L∞, eps 0.2")
    assert unproved["part"].unique().sort().to_list() == [PROVED, UNASKED]
    assert (unproved.filter(pl.col("part") == UNASKED)["start"] == 0).all()
    assert OPEN in bars["part"].to_list()
    chart = bracket_chart(unproved, unproved["name"].to_list()).to_dict()
    assert [layer["mark"]["type"] for layer in chart["layer"]] == ["bar", "tick"]
    assert bracket_bars(board.clear()).is_empty()


@pytest.mark.parametrize("done", [0.1, 0.3, 1.0])
def test_no_bar_ends_beyond_its_own_tick(tmp_path, done):
    demo = whole_sweep(tmp_path / "s", done=done)
    bars = bracket_bars(Results.open(demo.root).leaderboard(demo.name))
    assert len(bars) > 20
    assert (bars["stop"] <= bars["clean"]).all()
    if done == 1:  # the tick is not that of all samples, one for each model
        assert bars["clean"].n_unique() > 6


def test_proofs_that_have_not_run_yet_are_told_from_those_not_asked_for(tmp_path):
    demo = whole_sweep(tmp_path / "s")
    key = demo.ask("attack", "attacks", "pgd", ("new", None, None), norm="linf", eps=[0.1])
    demo.ask("screen", "verification", "v", ("new", None, None), norm="linf", eps=[0.1],
             params={"property": "untargeted"})  # fmt: skip
    columns = {"attack": "pgd", "norm": "linf", "eps": 0.1, "success": False, "check": "ok"}
    demo.add(key, "attacks", range(10), columns)
    bars = bracket_bars(Results.open(demo.root).leaderboard(demo.name))
    assert bars.filter(pl.col("name") == "new")["part"].to_list() == [PROVED, PENDING]
    assert UNASKED in bars["part"].to_list()


def test_a_contradicted_number_is_marked_and_explained(show, tmp_path):
    whole_sweep(tmp_path / "s", unsound=True)
    app = show(tmp_path / "s")
    assert "soundness" in app.warning[0].value
    table = app.dataframe[-1].value
    assert table["robust_accuracy_limits"].str.startswith("!").any()
    assert not table["clean_accuracy_limits"].str.startswith("!").any()


def test_labels():
    assert label({"model": "cnn", "training": "pgd", "seed": 1}) == "cnn / pgd #1"
    assert label({"model": "wk17a", "training": None, "seed": None}) == "wk17a"


def test_every_table_is_explained():
    page = (APP.parent / PAGES[1]).read_text()
    assert [name for name in TABLES if f'    "{name}": "' not in page] == []
