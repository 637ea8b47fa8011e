"""The houses and their storeys: who may import whom, and what each module loads by itself."""

import ast
import json
import re
import subprocess
import sys
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
HOUSES = ("tasks", "orchestrator", "dashboards")
HEAVY = ("ray", "torch", "streamlit", "foolbox", "ortools", "sklearn")

# From the ground up. A name stands for a module, or for a folder without what is named by itself;
# each imports only from its own storey and from those before it.
STOREYS = [
    # what the orchestrator sees of the tasks, without torch
    # the second program: whoever asks, it knows nobody
    "tasks.certificates",
    "tasks.errors",
    "tasks.catalogue",
    "tasks.rows",
    "tasks.job",
    # what several rooms share
    "tasks.groups",
    "tasks.own_functions",
    "tasks.ball",
    "tasks.logits",
    "tasks.shift",
    # a network as layers, and what can be proved of it, whoever asks
    "tasks.verification.reading",
    "tasks.verification.bounds",
    "tasks.verification.search",
    "tasks.verification.optimise",
    # rooms
    "tasks.shift.corrupt",
    "tasks.data",
    # a network once more, read by itself
    "tasks.recheck.layers",
    "tasks.recheck.steps",
    "tasks.recheck.unroll",
    "tasks.recheck.network",
    "tasks.recheck.chain",
    "tasks.models.architectures",
    "tasks.models",
    "tasks.load",
    "tasks.predict",
    "tasks.ood",
    "tasks.training",
    "tasks.training.losses",
    "tasks.attacks",
    "tasks.attacks.methods",
    "tasks.calibration",
    "tasks.sensitivity",
    "tasks.landscape",
    "tasks.verification",
    "tasks.recheck",
    "tasks.preflight",
    "tasks.jobs",
    "orchestrator.errors",
    "orchestrator.ranges",
    "orchestrator.settings",
    "orchestrator.files",
    "orchestrator.identity",
    "orchestrator.source",
    "orchestrator.spec",
    "orchestrator.store",
    "orchestrator.plan",
    "orchestrator.results.intervals",
    "orchestrator.results.metrics",
    "orchestrator.results.tables",
    "orchestrator.results.comparisons",
    "orchestrator.results",
    "orchestrator.run",
    "orchestrator.cli",
    "dashboards",
]

# The way in from Python stands on top of the houses; no house knows it.
FRONT = ["", "live", "inline", "images", "store", "running", "evaluated", "evaluation"]
# What its modules may import of the tasks inside functions, as they call jobs in this process.
FRONT_CALLS = {
    "": {"tasks.training.fit"},
    "images": {"tasks.data"},
    "live": {"tasks.models", "tasks.own_functions"},
    "inline": {"tasks.jobs"},
    "evaluation": {"tasks.jobs", "tasks.verification"},
}

# What the other houses may import of a house, beside themselves.
OPEN = {
    "orchestrator": {"tasks.catalogue", "tasks.rows", "tasks.job", "tasks.errors"},
    "dashboards": {"orchestrator.results", "orchestrator.errors", "orchestrator.settings"},
}
# The few modules that call into the tasks, inside functions: on a worker, or for one command.
CALLERS = {
    "orchestrator.run.jobs": {"tasks.jobs"},
    "orchestrator.run.recheck": {"tasks.recheck"},
    "orchestrator.results.counterexamples": {"tasks.recheck"},
    "orchestrator.plan.weights": {"tasks.data"},
    "orchestrator.cli.data": {"tasks.data"},
    "orchestrator.cli.proofs": {"tasks.recheck"},
    "orchestrator.cli.instances": {"tasks.verification"},
    "orchestrator.cli.vnnlib": {"tasks.verification"},
    "orchestrator.cli.certified": {"tasks.verification"},
}


def modules(house):
    files = sorted((ROOT / house).rglob("*.py"))
    names = [".".join(f.relative_to(ROOT).with_suffix("").parts) for f in files]
    return [name.removesuffix(".__init__") for name in names]


@cache
def imported(name):
    """Our modules that a module names in any import, however deep inside a function."""
    path = ROOT.joinpath(*name.split("."))
    file = path / "__init__.py" if path.is_dir() else path.with_suffix(".py")
    found = []
    for node in ast.walk(ast.parse(file.read_text())):
        if isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{name}: a relative import"
            for alias in node.names:
                inner = ROOT.joinpath(*str(node.module).split(".")[1:], alias.name)
                module = inner.is_dir() or inner.with_suffix(".py").exists()
                found.append(f"{node.module}.{alias.name}" if module else str(node.module))
        elif isinstance(node, ast.Import):
            found += [alias.name for alias in node.names]
    return found


def ours(name):
    """The same for our own modules alone, named as files lie."""
    for full in imported(name):
        assert full.split(".")[0] not in HOUSES, f"{name} imports {full}, not robsweep.{full}"
        if full.split(".")[0] == "robsweep" and full != "robsweep":
            yield full.removeprefix("robsweep.")


def storey(name):
    """Where a module stands: the longest name of STOREYS that holds it."""
    holding = [s for s in STOREYS if name == s or name.startswith(f"{s}.")]
    assert holding, f"{name} stands on no storey: add it to STOREYS"
    return STOREYS.index(max(holding, key=len))


ALL = [name for house in HOUSES for name in modules(house) if "." in name]


@pytest.mark.parametrize("name", ALL)
def test_imports_only_go_down(name):
    for other in ours(name):
        if other in HOUSES:
            continue  # the house itself, for its folder
        assert storey(other) <= storey(name), f"{name} imports {other}, which stands above it"


@pytest.mark.parametrize("name", ALL)
def test_a_house_sees_only_the_open_rooms_of_another(name):
    house = name.split(".")[0]
    allowed = OPEN.get(house, set()) | CALLERS.get(name, set())
    for other in ours(name):
        if other.split(".")[0] not in {house, other}:
            assert any(other == a or other.startswith(f"{a}.") for a in allowed), f"{name}: {other}"


def test_nothing_imports_a_house_by_its_bare_name():
    """Where the repository is on the path, it would be loaded a second time, as another module."""
    bare = re.compile(r"^\s*(from|import) (orchestrator|tasks|dashboards)\b", re.MULTILINE)
    files = [
        f
        for top in (*HOUSES, "tests", "benchmarks", "robsweep")
        for f in (ROOT / top).rglob("*.py")
    ]
    files += [ROOT / "README.md", *(ROOT / "docs").rglob("*.md")]
    own = {"mine", "test_own_names"}  # where a user's file of such a name is what is meant
    found = [str(f) for f in files if f.stem not in own and bare.search(f.read_text())]
    assert not found


def fronts(name):
    return f"robsweep/{name or '__init__'}.py"


def test_the_front_is_all_that_lies_beside_the_houses():
    files = {f"robsweep/{file.name}" for file in (ROOT / "robsweep").glob("*.py")}
    assert files == {*map(fronts, FRONT), "robsweep/__main__.py"}


@pytest.mark.parametrize("name", FRONT)
def test_the_front_stands_on_what_the_orchestrator_stands_on(name):
    allowed = {"orchestrator", *OPEN["orchestrator"], *FRONT_CALLS.get(name, set())}
    if name:
        allowed |= {*FRONT[1 : FRONT.index(name) + 1]}
    else:
        allowed |= {*FRONT}
    tree = ast.parse((ROOT / fronts(name)).read_text())
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom) and str(node.module).split(".")[0] == "robsweep":
            inside = str(node.module).removeprefix("robsweep").removeprefix(".")
            for other in [inside] if inside else [alias.name for alias in node.names]:
                ours = any(other == a or other.startswith(f"{a}.") for a in allowed)
                assert ours, f"robsweep.{name} imports {other}"


def test_the_front_is_cheap_and_loads_no_torch():
    modules = loads([name for name in reversed(FRONT) if name])
    assert {*modules} == {*FRONT[1:]}
    for name, heavy in modules.items():
        assert set(heavy) <= {"orchestrator", "tasks"}, name
    code = "import robsweep, sys; print(*sys.modules)"
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True
    )
    found = {*done.stdout.split()}
    assert "robsweep" in found
    assert not {"numpy", "polars", "pyarrow", "pydantic", *HEAVY} & found
    assert not {name for name in found if name.startswith("robsweep.")}


def test_every_storey_is_lived_in():
    assert not [s for s in STOREYS if not any(n == s or n.startswith(f"{s}.") for n in ALL)]
    assert {*CALLERS} <= {*ALL}


def loads(names, *before):
    """Module -> which of HEAVY are loaded when it is imported in a fresh process.

    A module that another one has loaded loads no more than that: so the topmost are asked first,
    and the others only where none has loaded them. The processes are forks of an interpreter that
    has imported nothing but `before`: libraries that these modules may load anyway, and that are
    slow to import a hundred times.
    """
    code = f"""
import importlib, json, os, sys
for name in {before!r}:
    importlib.import_module(name)
found = {{}}
for name in sys.argv[1:]:
    if name in found:
        continue
    read, write = os.pipe()
    if os.fork() == 0:
        os.close(read)
        try:
            importlib.import_module("robsweep." + name)
            heavy = [h for h in {HEAVY!r} if h in sys.modules]
            heavy += [h for h in {HOUSES!r} if "robsweep." + h in sys.modules]
        except BaseException as error:
            heavy = ["failed: " + repr(error)]
        ours = [m[9:] for m in sys.modules if m.startswith("robsweep.")]
        with os.fdopen(write, "w") as pipe:
            json.dump([heavy, ours], pipe)
        os._exit(0)
    os.close(write)
    with os.fdopen(read) as pipe:
        heavy, ours = json.load(pipe)
    os.wait()
    for one in [name, *(one for one in ours if one in sys.argv)]:
        found.setdefault(one, heavy)
print(json.dumps(found))
"""
    done = subprocess.run(
        [sys.executable, "-c", code, *names], cwd=ROOT, capture_output=True, text=True, check=True
    )
    return json.loads(done.stdout)


def topmost(names):
    """Those that may load what others must not come last, so that no other one is found by them."""
    return sorted(
        (name for name in names if "." in name),
        key=lambda name: (".ray_" in name or name.endswith("_process"), -storey(name)),
    )


CONTRACT = [
    name
    for name in modules("tasks")
    if any(name == open_ or name.startswith(f"{open_}.") for open_ in OPEN["orchestrator"])
]


@pytest.fixture(scope="module")
def loaded():
    tasks = [name for name in modules("tasks") if name not in CONTRACT]
    return {
        **loads(topmost(modules("orchestrator")), "numpy", "pyarrow.parquet", "polars", "pydantic"),
        **loads(topmost(tasks), "torch", "scipy.optimize", "pyarrow"),
        **loads(topmost(CONTRACT)),
    }


def test_every_module_imports(loaded):
    assert len(loaded) > 60
    assert not {name: heavy for name, heavy in loaded.items() if "failed" in str(heavy)}


def test_the_orchestrator_loads_no_torch_and_only_its_ray_modules_load_ray(loaded):
    for name in topmost(modules("orchestrator")):
        allowed = {"orchestrator", "tasks"} | ({"ray"} if ".ray_" in name else set())
        assert set(loaded[name]) <= allowed, name


def test_only_ray_modules_name_ray():
    for name in modules("orchestrator"):
        if ".ray_" not in name:
            assert "ray" not in {full.split(".")[0] for full in imported(name)}, name


def test_tasks_load_no_ray_no_orchestrator_and_no_optional_library(loaded):
    for name in topmost(modules("tasks")):
        if name.endswith(".solver_process"):  # the child process that solves
            continue
        assert set(loaded[name]) <= {"tasks", "torch"}, name


@pytest.mark.parametrize("name", CONTRACT)
def test_the_contract_is_torch_free(loaded, name):
    assert loaded[name] == ["tasks"]


def test_dashboards_name_no_ray_and_no_torch():
    for name in modules("dashboards"):
        assert not {"ray", "torch"} & {full.split(".")[0] for full in imported(name)}, name


def test_the_recheck_loads_nothing_of_the_verifier():
    names = [*modules("tasks/recheck"), "orchestrator.run.recheck"]
    names.append("orchestrator.results.counterexamples")
    code = "import sys, importlib\n"
    code += "[importlib.import_module('robsweep.' + name) for name in sys.argv[1:]]\n"
    code += "print(*sys.modules)"
    done = subprocess.run(
        [sys.executable, "-c", code, *names], cwd=ROOT, capture_output=True, text=True, check=True
    )
    found = set(done.stdout.split())
    assert {"robsweep.tasks.recheck.run", "robsweep.tasks.recheck.milp_process"} <= found
    verifier = ("robsweep.tasks.verification", "ortools")
    assert not {name for name in found if name.startswith(verifier)}


def test_the_second_program_imports_numpy_and_nothing_of_ours():
    allowed = {"numpy", *sys.stdlib_module_names}
    for name in modules("tasks/certificates"):
        for full in imported(name):
            inside = full.startswith("robsweep.tasks.certificates")
            assert inside or full.split(".")[0] in allowed, f"{name} imports {full}"
    code = "import sys, robsweep.tasks.certificates.check; print(*sys.modules)"
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True
    )
    found = {*done.stdout.split()}
    ours = {name for name in found if name.startswith("robsweep.")} - {"robsweep.tasks"}
    assert ours
    assert not {name for name in ours if not name.startswith("robsweep.tasks.certificates")}
    assert not {"torch", "scipy", "pyarrow", *HEAVY} & found
