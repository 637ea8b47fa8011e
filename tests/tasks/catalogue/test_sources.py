"""Which files the hash of a user's function covers, and which edits change it."""

import ast
import hashlib
import sys
from pathlib import Path

import pytest

from robsweep.orchestrator.source import source_files, source_sha256
from robsweep.tasks.catalogue.code.source_text import canonical
from robsweep.tasks.catalogue.code.sources import RESERVED
from robsweep.tasks.errors import InputError

ROOT = Path(__file__).parents[3]
PLAIN = b"import torch\n\n\ndef net(shape, classes):\n\n    return torch.nn.Identity()\n"


def write(folder, **files):
    for name, text in files.items():
        file = folder / name.replace("__", "/").replace("/init/", "/__init__")
        file = file.with_suffix(".py")
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(text if isinstance(text, bytes) else text.encode())


def sha(folder, name="mine:net"):
    return source_sha256(name, (str(folder),))


@pytest.mark.parametrize(
    "content",
    [
        PLAIN,
        PLAIN.replace(b"\n", b"\r\n"),
        b"\xef\xbb\xbf" + PLAIN,
        PLAIN.rstrip(),
        b'x = """# no comment"""\ny = "a" "b"\n"no docstring"\n',
        b"not Python at all (",
        b"",
    ],
)
def test_a_file_without_comments_and_imports_has_the_hash_of_its_bytes(tmp_path, content):
    write(tmp_path, mine=content)
    assert canonical(content) == content
    assert sha(tmp_path) == hashlib.sha256(content).hexdigest()


SAID = [
    PLAIN + b"# behind\n",
    b"# before\n" + PLAIN,
    b"#!/usr/bin/env python\n# -*- coding: utf-8 -*-\n" + PLAIN,
    b'"""Doc."""\n\n' + PLAIN,
    b'"""Doc."""\n\n# and a comment\n\n' + PLAIN,
    PLAIN.replace(b"import torch\n", b"import torch  # why\n"),
    PLAIN.replace(b"):\n\n", b'):\n    """Doc\n\n    of lines.\n    """  # x\n\n').replace(
        b"    return", b"\n    return"
    ),
    PLAIN.replace(b"Identity()", b"Identity()  # \xc3\xa9 'quoted'"),
    PLAIN.replace(b"\n    return", b"\n    # a line\n\t# another\n    return"),
]


@pytest.mark.parametrize("content", SAID)
def test_comments_and_docstrings_change_nothing(content):
    plain = PLAIN.replace(b"):\n\n", b"):\n") if b"of lines" in content else PLAIN
    if b"of lines" in content:
        content = content.replace(b"\n\n    return", b"\n    return")
    assert canonical(content) == plain


@pytest.mark.parametrize(
    ("one", "other"),
    [
        (b"x = '# 1'\n", b"x = '# 2'\n"),
        (b'"""Doc."""\nx = """a"""\n', b'"""Doc."""\nx = """b"""\n'),
        (b"x = 1 # a\n", b"x = 2 # a\n"),
        (b"def f():\n    x = 'a'\n    'b'\n", b"def f():\n    x = 'a'\n    'c'\n"),
        (b"# coding: latin-1\nx = '\xe9'\n", b"# coding: cp1251\nx = '\xe9'\n"),
        (b"if a:\n    # c\n    b()\n", b"if a:\n    # c\n    pass\nb()\n"),
    ],
)
def test_what_the_code_does_is_kept(one, other):
    assert canonical(one) != canonical(other)


IMPORTS = {
    "absolute": ("import helper\n", "helper"),
    "names": ("from helper import SCALE\n", "helper"),
    "as": ("import pkg.deep as d\n", "pkg__deep"),
    "the package itself": ("import pkg.deep\n", "pkg____init__"),
    "a submodule by from": ("from pkg import deep\n", "pkg__deep"),
    "a star": ("from pkg import *\n", "pkg__deep"),
    "inside a function": ("def net(): from helper import SCALE\n", "helper"),
    "in a class": ("class A:\n    if True:\n        import helper\n", "helper"),
    "deep": ("import chain\n", "helper"),
    "in a circle": ("import circle\n", "helper"),
    "relative, by the package": ("import pkg.inner\n", "pkg__deep"),
    "from dot": ("import pkg.dotted\n", "pkg__deep"),
    "two dots": ("import pkg.sub.up\n", "pkg__deep"),
    "a folder without __init__": ("import space.room\n", "space__room"),
    "literal": ("import importlib\nm = importlib.import_module('helper')\n", "helper"),
}
FILES = {
    "helper": "SCALE = 1\n",
    "chain": "import link\n",
    "link": "def f():\n    import helper\n",
    "circle": "import back\n",
    "back": "import circle, helper\n",
    "pkg____init__": "A = 1\n",
    "pkg__deep": "B = 1\n",
    "pkg__inner": "from .deep import B\n",
    "pkg__dotted": "from . import deep\n",
    "pkg__sub____init__": "",
    "pkg__sub__up": "from ..deep import B\n",
    "space__room": "C = 1\n",
}


@pytest.mark.parametrize("case", IMPORTS)
def test_every_local_module_that_is_imported_counts(tmp_path, case):
    text, edited = IMPORTS[case]
    write(tmp_path, mine=text, **FILES)
    before = sha(tmp_path)
    write(tmp_path, **{edited: "# a comment\n" + FILES[edited]})
    assert sha(tmp_path) == before
    write(tmp_path, **{edited: FILES[edited] + "D = 2\n"})
    assert sha(tmp_path) != before


def test_what_is_not_imported_or_not_local_does_not_count(tmp_path, monkeypatch):
    installed = tmp_path / "lib" / "site-packages"
    elsewhere = tmp_path / "elsewhere"
    sweep = tmp_path / "sweep"
    text = "import other, robsweep, random, torch, statistics\nimport nearby\n"
    write(sweep, mine=text, unused="x = 1", random="x = 1", torch="x = 1", robsweep="x = 1")
    write(installed, other="x = 1")
    write(elsewhere, nearby="x = 1")
    for folder in (installed, elsewhere):
        monkeypatch.syspath_prepend(str(folder))
    assert source_files("mine:net", (str(sweep),)) == {
        "mine": str(sweep / "mine.py"),
        "nearby": str(elsewhere / "nearby.py"),
    }
    before = sha(sweep)
    write(sweep, unused="x = 2", random="x = 2", robsweep="x = 2")
    write(installed, other="x = 2")
    assert sha(sweep) == before
    write(elsewhere, nearby="x = 2")  # of the Python path, but not installed
    assert sha(sweep) != before
    write(installed, other="def net(): ...")  # named itself, it counts, as it always did
    digest = hashlib.sha256(b"def net(): ...").hexdigest()
    assert sha(sweep, "other:net") == digest


def test_the_sweeps_own_folder_comes_first(tmp_path, monkeypatch):
    one, two = tmp_path / "one", tmp_path / "two"
    write(one, mine="x = 1\n")
    write(two, mine="x = 2\n")
    monkeypatch.syspath_prepend(str(two))
    assert sha(one) == hashlib.sha256(b"x = 1\n").hexdigest()
    assert sha(tmp_path / "none") == hashlib.sha256(b"x = 2\n").hexdigest()


@pytest.mark.parametrize("name", ["robsweep", "random", "torch", "ray"])
def test_a_name_that_we_need_ourselves_is_refused(tmp_path, monkeypatch, name):
    monkeypatch.delitem(sys.modules, "mine", raising=False)  # of another test in this process
    write(tmp_path, **{name: "def net(): ...\n"})
    with pytest.raises(InputError, match="give your own another name"):
        sha(tmp_path, f"{name}:net")
    with pytest.raises(InputError, match="No module named 'absent'"):
        sha(tmp_path, "absent:net")
    write(tmp_path, mine="", inner="")
    with pytest.raises(InputError, match="No module named 'mine"):
        sha(tmp_path, "mine.inner:net")


def test_all_that_we_import_ourselves_is_reserved():
    found = set()
    for house in ("tasks", "orchestrator", "dashboards"):
        for file in (ROOT / house).rglob("*.py"):
            for node in ast.walk(ast.parse(file.read_text())):
                if isinstance(node, ast.Import):
                    found |= {alias.name.split(".")[0] for alias in node.names}
                elif isinstance(node, ast.ImportFrom):
                    found.add(node.module.split(".")[0])
                elif (
                    isinstance(node, ast.Call)
                    and isinstance(node.func, ast.Name)
                    and node.func.id == "optional"
                ):
                    found.add(node.args[0].value.split(".")[0])
    assert found <= RESERVED
