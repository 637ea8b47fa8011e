"""What to type where a library is missing fits how robsweep was installed."""

from pathlib import Path

import pytest

from robsweep.tasks.catalogue.code.install import how_to_install
from robsweep.tasks.catalogue.code.resolve import optional
from robsweep.tasks.errors import InputError

ROOT = Path(__file__).parents[3]


def test_a_checkout_installs_itself(tmp_path):
    (tmp_path / "pyproject.toml").touch()
    text = how_to_install("attacks", tmp_path)
    assert "make .venv/ready" in text
    assert "pip install -e '.[attacks]'" in text
    assert str(tmp_path) in text
    assert how_to_install("attacks") == how_to_install("attacks", ROOT)  # as here


def test_anything_else_is_installed_by_name(tmp_path):
    assert how_to_install("attacks", tmp_path) == "pip install 'robsweep[attacks]'"


def test_a_missing_library_says_so():
    with pytest.raises(InputError, match="no_such_library is not installed") as caught:
        optional("no_such_library", "data")
    assert how_to_install("data") in str(caught.value)


def test_no_other_place_says_it():
    houses = (ROOT / house for house in ("tasks", "orchestrator", "dashboards"))
    saying = [f for house in houses for f in house.rglob("*.py") if "pip install" in f.read_text()]
    assert [f.name for f in saying] == ["install.py"]
