"""A run beside others: what happens to its store between its first look and its take-over."""

from datetime import timedelta

from robsweep.orchestrator.results.check import check
from robsweep.orchestrator.run import session
from robsweep.orchestrator.store import free
from robsweep.orchestrator.store.store import Store
from tests.stores import all_rows
from tests.sweeps import TINY, sweep

IMPORTED = TINY.replace("mlp: {hidden: [16]}", "mlp: {hidden: [16], train: false, weights: w.pt}")


def weights():
    import torch

    from robsweep.tasks.models.architectures.mlp import mlp

    torch.save(mlp((1, 8, 8), 10, hidden=[16]).state_dict(), "w.pt")


# digits are predicted for real: seconds, as torch is imported
def test_a_sweep_that_is_deleted_before_its_take_over_is_recorded_again(
    robsweep, tmp_path, monkeypatch
):
    writer, made = session.Writer, []

    def late(store, name):
        if not made:
            free.forget(store, name)
        made.append(writer(store, name))
        return made[-1]

    monkeypatch.setattr(session, "Writer", late)
    code, _, err = robsweep("run", sweep(), "--only", "predict")
    assert code == 0, err
    store = Store.open(tmp_path / "results")
    assert store.sweeps() == ["small"]
    assert len(made) == 2
    found = free.surplus(store, store.snapshot(), free.recorded(store))
    assert not found.rows
    files = {key.rsplit("/", 1)[1] for key in store.files.list("sweeps/small")}
    assert {"spec.yaml", "env.json", "plan.parquet"} < files
    assert robsweep("status", "small")[0] == 0


# three runs: seconds
def test_what_describes_an_imported_model_is_written_again_if_it_is_freed_meanwhile(
    robsweep, tmp_path, monkeypatch
):
    weights()
    for name in ("small", "other"):
        text = IMPORTED.replace("name: small", f"name: {name}")
        code, _, err = robsweep("run", sweep(text, f"{name}.yaml"), "--only", "predict")
        assert code == 0, err
    store = Store.open(tmp_path / "results")
    before = all_rows(store.root, "models")
    ids = before["measurement_id"].to_pylist()
    assert len(ids) == len({*ids}), "the second sweep knows the rows"
    for name in ("small", "other"):
        free.forget(store, name)
    record = session.record

    def late(opened, *rest):
        ids = free.surplus(opened, opened.snapshot(), free.recorded(opened)).ids
        assert free.free(opened, ids, timedelta(0))[0] > 0
        record(opened, *rest)

    monkeypatch.setattr(session, "record", late)
    code, _, err = robsweep("run", "other.yaml", "--only", "attack")  # so there is work to do
    assert code == 0, err
    after = all_rows(store.root, "models")
    assert after.sort_by("measurement_id") == before.sort_by("measurement_id")
    assert after.num_rows > 0
    assert not check(store).problems
