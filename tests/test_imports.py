"""The houses: what each module loads when it is imported, in a fresh interpreter."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
ALLOWED = {"orchestrator.results", "orchestrator.report", "orchestrator.errors"}
HEAVY = ("ray", "torch", "streamlit", "foolbox", "ortools", "sklearn", "orchestrator", "tasks")


def modules(house):
    files = sorted((ROOT / house).rglob("*.py"))
    names = [".".join(f.relative_to(ROOT).with_suffix("").parts) for f in files]
    return [name.removesuffix(".__init__") for name in names]


CONTRACT = [
    "tasks.rows",
    "tasks.catalogue",
    "tasks.entries",
    "tasks.values",
    "tasks.job",
    "tasks.errors",
]


def imports(names, *before):
    """Module -> which of HEAVY it loads, each in a process of its own.

    The processes are forks of an interpreter that has imported nothing but `before`: libraries
    that these modules may load anyway, and that are slow to import a hundred times.
    """
    code = f"""
import importlib, json, os, sys
for name in {before!r}:
    importlib.import_module(name)
found = {{}}
for name in sys.argv[1:]:
    read, write = os.pipe()
    if os.fork() == 0:
        try:
            importlib.import_module(name)
            heavy = [h for h in {HEAVY!r} if h in sys.modules]
        except BaseException as error:
            heavy = ["failed: " + repr(error)]
        os.write(write, json.dumps(heavy).encode())
        os._exit(0)
    os.close(write)
    found[name] = json.loads(os.read(read, 65536))
    os.wait()
print(json.dumps(found))
"""
    done = subprocess.run(
        [sys.executable, "-c", code, *names], cwd=ROOT, capture_output=True, text=True, check=True
    )
    return json.loads(done.stdout)


@pytest.fixture(scope="module")
def loaded():
    tasks = [name for name in modules("tasks") if name not in CONTRACT]
    return {
        **imports(modules("orchestrator"), "numpy", "pyarrow.parquet", "polars", "pydantic"),
        **imports(tasks, "torch", "scipy.optimize", "pyarrow"),
        **imports(CONTRACT),
    }


def test_every_module_imports(loaded):
    assert len(loaded) > 60
    assert not {name: heavy for name, heavy in loaded.items() if "failed" in str(heavy)}


def test_the_orchestrator_loads_no_torch_and_only_its_ray_modules_load_ray(loaded):
    for name in modules("orchestrator"):
        allowed = {"orchestrator", "tasks"} | ({"ray"} if ".ray_" in name else set())
        assert set(loaded[name]) <= allowed, name


def test_tasks_load_no_ray_no_orchestrator_and_no_optional_library(loaded):
    for name in modules("tasks"):
        if name == "tasks.verification.solver_process":  # the child process that solves
            continue
        assert set(loaded[name]) <= {"tasks", "torch"}, name


@pytest.mark.parametrize("name", CONTRACT)
def test_the_contract_is_torch_free(loaded, name):
    assert loaded[name] == ["tasks"]


def test_the_recheck_loads_nothing_of_the_verifier():
    names = [*modules("tasks/recheck"), "orchestrator.recheck", "orchestrator.counterexamples"]
    code = "import sys, importlib; [importlib.import_module(name) for name in sys.argv[1:]]\n"
    code += "print(*sys.modules)"
    done = subprocess.run(
        [sys.executable, "-c", code, *names], cwd=ROOT, capture_output=True, text=True, check=True
    )
    found = set(done.stdout.split())
    assert {"tasks.recheck.run", "tasks.recheck.milp_process"} <= found
    assert not {name for name in found if name.startswith(("tasks.verification", "ortools"))}


def test_dashboards_know_only_the_read_side():
    import ast

    for file in (ROOT / "dashboards").rglob("*.py"):
        for node in ast.walk(ast.parse(file.read_text())):
            names = []
            if isinstance(node, ast.ImportFrom) and node.module:
                names = [node.module]
            elif isinstance(node, ast.Import):
                names = [alias.name for alias in node.names]
            for name in names:
                house = name.split(".")[0]
                assert house not in {"ray", "torch", "tasks"}, f"{file}: {name}"
                if house == "orchestrator":
                    assert name in ALLOWED, f"{file}: {name}"


def test_only_ray_modules_name_ray():
    for file in (ROOT / "orchestrator").rglob("*.py"):
        if not file.name.startswith("ray_"):
            lines = file.read_text().splitlines()
            assert not [
                line for line in lines if line.strip().startswith(("import ray", "from ray"))
            ]
