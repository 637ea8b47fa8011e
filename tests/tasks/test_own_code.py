"""Which version of a user's module a job runs, in a process that has loaded others before."""

import sys
from dataclasses import replace
from types import ModuleType

import pytest

from robsweep.orchestrator.source import source_sha256
from robsweep.tasks.errors import InputError
from robsweep.tasks.job import Inputs, Setting
from robsweep.tasks.jobs import run
from tests.tasks.digit_jobs import job_of

NAME = "mine:shift"
MINE = "def shift(images, severity):\n    return images / (1 + {})\n"
BY_HELPER = (
    "from helper import SCALE\ndef shift(images, severity):\n    return images / (1 + SCALE)\n"
)


def setting_of(folder, *, planned=True, name=NAME):
    folder = str(folder)
    code = {name: source_sha256(name, (folder,))} if planned else {}
    return Setting(data_dir="", import_paths=(folder,), code=code)


def shifted(setting, weights, name=NAME):
    """What the job of a corruption computes, told by its logits."""
    job = job_of("predict", {"source": f"corruption:{name}:1"}, 0, 250, setting=setting)
    return run(job, weights).tables["predictions"]["logits"]


@pytest.fixture(scope="module")
def by_shift(weights, tmp_path_factory):
    """The logits for a shift by 0, 1 and 2, each from a folder of its own."""
    found = {}
    for value in (0, 1, 2):
        folder = tmp_path_factory.mktemp("alone")
        (folder / f"alone{value}.py").write_text(MINE.format(value))
        name = f"alone{value}:shift"
        found[value] = shifted(setting_of(folder, name=name), weights, name)
    return found


@pytest.mark.parametrize("planned", [True, False])
def test_an_edited_module_is_loaded_anew(tmp_path, weights, by_shift, planned):
    for value in (0, 1, 2, 1):  # edits of the same length, within one tick of the clock
        (tmp_path / "mine.py").write_text(MINE.format(value))
        got = shifted(setting_of(tmp_path, planned=planned), weights)
        assert got.equals(by_shift[value])


@pytest.mark.parametrize("planned", [True, False])
def test_so_is_one_that_imports_an_edited_one(tmp_path, weights, by_shift, planned):
    (tmp_path / "mine.py").write_text(BY_HELPER)
    for value in (1, 2, 0):
        (tmp_path / "helper.py").write_text(f"SCALE = {value}\n")
        got = shifted(setting_of(tmp_path, planned=planned), weights)
        assert got.equals(by_shift[value])


def test_modules_of_one_name_in_two_folders_are_two(tmp_path, weights, by_shift):
    for value, folder in enumerate(("a", "b", "c")):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / "mine.py").write_text(BY_HELPER)
        (tmp_path / folder / "helper.py").write_text(f"SCALE = {value}\n")
    for folder, value in (("a", 0), ("b", 1), ("c", 2), ("a", 0), ("c", 2)):
        assert shifted(setting_of(tmp_path / folder), weights).equals(by_shift[value])


def test_a_module_is_imported_once_as_long_as_it_is_the_same(tmp_path, weights):
    count = tmp_path / "count"
    text = f"with open({str(count)!r}, 'a') as file: file.write('x')\n" + MINE.format(0)
    (tmp_path / "mine.py").write_text(text)
    for _ in range(3):
        shifted(setting_of(tmp_path), weights)
    assert count.read_text() == "x"


def test_the_process_keeps_its_own_modules_and_path(tmp_path, weights, by_shift, monkeypatch):
    own, helper = ModuleType("mine"), ModuleType("helper")
    monkeypatch.setitem(sys.modules, "mine", own)
    monkeypatch.setitem(sys.modules, "helper", helper)
    (tmp_path / "mine.py").write_text(BY_HELPER)
    (tmp_path / "helper.py").write_text("SCALE = 2\n")
    path, finders = [*sys.path], [*sys.meta_path]
    assert shifted(setting_of(tmp_path), weights).equals(by_shift[2])
    assert sys.modules["mine"] is own
    assert sys.modules["helper"] is helper
    monkeypatch.delitem(sys.modules, "mine")
    assert shifted(setting_of(tmp_path), weights).equals(by_shift[2])
    assert "mine" not in sys.modules
    assert (sys.path, sys.meta_path) == (path, finders)


def test_an_edit_after_the_plan_is_no_row_of_the_plan(tmp_path, weights, by_shift):
    (tmp_path / "mine.py").write_text(MINE.format(1))
    planned = setting_of(tmp_path)
    assert shifted(planned, weights).equals(by_shift[1])
    (tmp_path / "mine.py").write_text(MINE.format(2))
    # what this process has loaded is what was planned
    assert shifted(planned, weights).equals(by_shift[1])
    assert shifted(setting_of(tmp_path), weights).equals(by_shift[2])
    with pytest.raises(InputError, match="has changed since the sweep was planned"):
        shifted(planned, weights)
    (tmp_path / "mine.py").write_text("# as it was\n" + MINE.format(1))
    assert shifted(planned, weights).equals(by_shift[1])


def test_so_for_a_module_that_is_imported_late(tmp_path, weights, by_shift):
    late = (
        "def shift(images, severity):\n    import helper\n    return images / (1 + helper.SCALE)\n"
    )
    (tmp_path / "mine.py").write_text(late)
    (tmp_path / "helper.py").write_text("SCALE = 1\n")
    planned = setting_of(tmp_path)
    (tmp_path / "helper.py").write_text("SCALE = 2\n")
    with pytest.raises(InputError, match="has changed since"):
        shifted(planned, weights)
    assert shifted(setting_of(tmp_path), weights).equals(by_shift[2])


@pytest.mark.parametrize("name", ["pkg.mine:shift", "space.mine:shift"])
def test_packages_and_folders_without_init(tmp_path, weights, by_shift, name):
    folder = tmp_path / name.split(".")[0]
    folder.mkdir()
    if folder.name == "pkg":
        (folder / "__init__.py").write_text("")
    text = BY_HELPER.replace("from helper", "from .helper")
    (folder / "mine.py").write_text(text)
    for value in (1, 2):
        (folder / "helper.py").write_text(f"SCALE = {value}\n")
        for _ in range(2):
            assert shifted(setting_of(tmp_path, name=name), weights, name).equals(by_shift[value])


def test_what_a_module_draws_or_sets_when_it_is_imported_is_the_same_everywhere(tmp_path, weights):
    import torch

    text = (
        "import random, numpy, torch\n"
        "drawn = [torch.rand(()).item(), numpy.random.rand(), random.random()]\n"
        "torch.manual_seed(1)\ntorch.set_default_dtype(torch.float64)\n"
        "def shift(images, severity):\n"
        "    assert torch.get_default_dtype() == torch.float32\n"
        "    return images * (1 - sum(drawn) * torch.rand_like(images)).clamp(0, 1)\n"
    )
    (tmp_path / "mine.py").write_text(text)
    first = shifted(setting_of(tmp_path), weights)
    assert torch.get_default_dtype() == torch.float32
    again = shifted(setting_of(tmp_path), weights)
    (tmp_path / "mine.py").write_text(text + "x = 1\n")
    assert first.equals(again)
    assert first.equals(shifted(setting_of(tmp_path), weights))


def test_a_users_model_is_built_from_the_code_of_its_job(tmp_path, weights):
    text = (
        "from torch import nn\n"
        "class Net(nn.Module):\n"
        "    def __init__(self): super().__init__(); self.fc1 = nn.Linear(64, 10)\n"
        "    def forward(self, x): return self.fc1(x.flatten(1)) * {}\n"
        "def net(shape, classes): return Net()\n"
    )
    ref = replace(job_of("predict", {}).measurement.model, arch="mine:net", params={})
    found = []
    for factor in (1, 2):
        (tmp_path / "mine.py").write_text(text.format(factor))
        setting = setting_of(tmp_path, name="mine:net")
        job = job_of("predict", {"source": "clean"}, 0, 250, model=ref, setting=setting)
        found.append(run(job, Inputs()).tables["predictions"]["logits"].combine_chunks())
    one, two = (logits.flatten().to_numpy() for logits in found)
    assert (two == 2 * one).all()
