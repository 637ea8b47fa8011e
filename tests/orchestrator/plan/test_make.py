"""What all sections share: how jobs of a measurement are cut, and whose code its id hashes."""

from pathlib import Path

import pytest

from robsweep.orchestrator.errors import InputError
from robsweep.orchestrator.plan.make import Make
from robsweep.orchestrator.plan.planned import Places, PlannedModel
from robsweep.orchestrator.plan.sources import hashes
from robsweep.orchestrator.source import source_sha256
from robsweep.tasks.catalogue import KINDS
from robsweep.tasks.job import ModelRef
from tests.sweeps import TINY, spec_of

MODEL = PlannedModel(
    ModelRef("train-0", "mlp", {}, (1, 8, 8), 10), "train-0", "mlp", "standard", 3, ("train-0",)
)


def make(text=TINY, folder=None):
    return Make.of(spec_of(text, folder), Places(Path("data")))


def planned(made, kind="attack", **given):
    params = {"group_size": 50} if kind == "attack" else {}
    return made.planned(kind, MODEL, "s", "e", "n", params, **given)


@pytest.mark.parametrize(("asked", "cut"), [(1, 50), (50, 50), (51, 100), (175, 200)])
def test_jobs_are_whole_groups(asked, cut):
    text = TINY.replace("seeds:", f"resources: {{attack: {{samples_per_job: {asked}}}}}\nseeds:")
    assert planned(make(text)).per_job == cut


def test_without_resources_the_kind_says_how_jobs_are_cut():
    one = planned(make())
    assert one.per_job == 50 * KINDS["attack"].slice_groups
    assert (one.size, one.wanted) == (500, ((0, 500),))


def test_a_fit_is_one_unit_whatever_the_split():
    one = planned(make(), "calibrate", split="validation")
    assert (one.size, one.group, one.wanted) == (1, 1, ((0, 1),))


def test_needs_are_the_models_unless_others_are_given():
    assert planned(make()).needs == ("train-0",)
    assert planned(make(), needs=()).needs == ()


def test_an_empty_split_is_refused():
    with pytest.raises(InputError, match="digits has no other split"):
        planned(make(), split="other")


def test_code_is_that_of_a_users_own_functions_read_once(tmp_path):
    file = tmp_path / "mine.py"
    file.write_text("def net(shape, classes): ...\n")
    made = make(folder=tmp_path)
    code = made.code("mlp", "mine:net")
    assert hashes(code) == {"mine:net": source_sha256("mine:net", (str(tmp_path),))}
    assert {*code["mine:net"].files} == {str(file)}
    before = planned(made, code=code).measurement.measurement_id
    assert planned(made).measurement.measurement_id != before
    file.write_text("def net(shape, classes): return 1\n")
    assert made.code("mine:net") == code, "a plan is of one state of the files"
    other = make(folder=tmp_path).code("mine:net")
    assert planned(made, code=other).measurement.measurement_id != before
