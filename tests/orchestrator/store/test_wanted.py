"""What is still wanted of a store: one pure function of plans and what is held."""

import json

from robsweep.orchestrator.plan.table import to_table
from robsweep.orchestrator.store.wanted import Asked, Held, Question, asked, wanted
from tests.sweeps import SMALL, plan_of

BALL = Question("train-1", "digits", "test", "untargeted", "linf")


def one(key, model="train-1", question=None, names=()):
    return Asked(key, model, question, frozenset(names))


def test_nothing_is_wanted_of_nobody():
    assert wanted([], [Held("attack-1", "train-1", None)]) == frozenset()


def test_what_is_planned_and_what_it_names_is_wanted():
    plans = [one("attack-1", names=["train-2"]), one("predict-1", "train-3")]
    assert wanted(plans, []) == {"attack-1", "train-1", "train-2", "predict-1", "train-3"}


def test_an_answer_to_a_question_of_a_plan_is_wanted_at_every_eps():
    plans = [one("screen-1", question=BALL)]
    others = {
        "screen-9": BALL,
        "solve-9": BALL,
        "screen-8": BALL._replace(model_id="train-9"),
        "screen-7": BALL._replace(property="untargeted margin=0.5"),
        "screen-6": BALL._replace(norm="l2"),
        "screen-5": BALL._replace(dataset="mnist"),
    }
    held = [Held(key, question.model_id, question) for key, question in others.items()]
    assert wanted(plans, held) == {"screen-1", "train-1", "screen-9", "solve-9"}


def test_rows_of_imported_models_are_wanted_as_long_as_the_model_is():
    plans = [one("attack-1", "import-1")]
    held = [Held("preflight-1", "import-1", None), Held("preflight-2", "import-2", None)]
    assert wanted(plans, held) == {"attack-1", "import-1", "preflight-1"}


def test_other_rows_of_a_wanted_model_are_not_wanted():
    assert "attack-2" not in wanted([one("attack-1")], [Held("attack-2", "train-1", None)])


FAMILY = SMALL.replace("  standard: {epochs: 1}", "  standard: {epochs: 1}\n  on: {training: fgsm, eps: 0.1, start: standard}")  # fmt: skip # noqa: E501
FAMILY = FAMILY.replace("  mlp: {hidden: [16]}", "  mlp: {hidden: [16]}\n  cnn: {arch: cnn_small}\n  both: {members: [mlp, cnn]}")  # fmt: skip # noqa: E501
FAMILY = FAMILY.replace("ood:", "  moved: {attack: LinfPGD, eps: 0.1, source: mlp/standard}\nood:")


def test_a_plan_names_all_that_its_measurements_are_made_of():
    """Held against what the planner says that each needs, and against what parameters hold."""
    plan = plan_of(FAMILY)
    rows = {row.measurement_id: row for row in asked(to_table(plan).to_pylist())}
    assert rows.keys() == plan.measurements.keys()
    seen = {"start": 0, "members": 0, "source": 0, "predictions": 0}
    for key, planned in plan.measurements.items():
        assert set(planned.needs) <= rows[key].names
        for name in seen:
            made_of = planned.measurement.params.get(name, [])
            made_of = [made_of] if isinstance(made_of, str) else made_of
            if made_of and made_of != ["clean"]:
                seen[name] += 1 if set(made_of) & plan.measurements.keys() else 0
                assert {m for m in made_of if "-" in m} <= rows[key].names
    assert all(seen.values()), seen
    screens = {row.question for row in rows.values() if row.measurement_id[:6] == "screen"}
    solves = {row.question for row in rows.values() if row.measurement_id[:5] == "solve"}
    assert screens == solves
    assert None not in screens


def test_every_model_of_a_plan_is_wanted_with_what_it_is_made_of():
    """Whatever single measurements are left of a plan, the models behind them stay."""
    plan = plan_of(FAMILY)
    rows = {row.measurement_id: row for row in asked(to_table(plan).to_pylist())}
    for key, planned in plan.measurements.items():
        keep = wanted([rows[key]], [])
        assert planned.measurement.model.model_id in keep
        direct = json.dumps(planned.measurement.params)
        assert {one for one in plan.measurements if one in direct} <= keep
