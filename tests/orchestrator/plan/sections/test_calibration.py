import pytest

from robsweep.orchestrator.errors import InputError
from tests.orchestrator.plan.test_ensembles import VOTING
from tests.sweeps import plan_of

SCALED = VOTING + "\ncalibration:\n  before: {method: temperature, members: before, only: [ens]}\n"


def fits(plan):
    return [p for p in plan.measurements.values() if p.measurement.kind == "calibrate"]


def test_members_scaled_before_the_vote_need_their_own_validation_predictions():
    plan = plan_of(SCALED)
    found = fits(plan)
    assert len(found) == 4  # trainings and seeds
    for one in found:
        params = one.measurement.params
        assert (params["members"], params["vote"]) == ("before", "mean_logits")
        made = plan.measurements[one.measurement.model.model_id].measurement
        predictions = [plan.measurements[key] for key in params["predictions"]]
        assert [p.measurement.model.model_id for p in predictions] == made.params["members"]
        assert {p.measurement.split for p in predictions} == {"validation"}
        assert set(params["predictions"]) < set(one.needs)


def test_after_the_vote_is_as_if_nothing_were_said():
    plain = VOTING + "\ncalibration:\n  after: {method: temperature, only: [ens]}\n"
    said = plain.replace("temperature,", "temperature, members: after,")
    assert [*plan_of(plain).measurements] == [*plan_of(said).measurements]


def test_models_without_members_are_refused():
    with pytest.raises(InputError, match="`members: before` is for ensembles of models"):
        plan_of(SCALED.replace("[ens]", "[small]"))
