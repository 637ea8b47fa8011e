"""Every block of README.md and docs/ is run: shell, YAML and Python, a page in its order.

A page has a folder of its own. YAML and Python blocks that begin with `# FILE` are written there; a
whole sweep is planned, and so are sections, in a small sweep around them. What needs the network, a
server, a cluster or real data is not run: then its words must be ones that the program takes.
"""

import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

ROOT = Path(__file__).parents[2]
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").rglob("*.md"))]
BLOCK = re.compile(r"^```(bash|yaml|python)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
AROUND = {
    "name": "around",
    "dataset": "digits",
    "samples": 20,
    "models": {"mlp": {"hidden": [16]}, "small": {"arch": "cnn_small"}},
    "trainings": {"standard": {"epochs": 1}},
}


def blocks(page):
    return [(match[1], match[2]) for match in BLOCK.finditer(page.read_text())]


def test_no_block_escapes():
    for page in PAGES:
        fences = re.findall(r"^```(\w+)$", page.read_text(), re.MULTILINE)
        assert len(fences) == len(blocks(page)), f"{page.name}: a block in another language"


# docs/python.md is run, and what it prints is looked at, by tests/robsweep/test_docs.py
RUN = [page for page in PAGES if blocks(page) and page.stem != "python"]


@pytest.mark.parametrize("page", RUN, ids=lambda page: page.stem)
def test_blocks_of(page, robsweep, tmp_path, monkeypatch):
    (tmp_path / "sweeps").symlink_to(ROOT / "sweeps")
    monkeypatch.syspath_prepend(str(tmp_path))
    names = {"__name__": "__main__"}
    for language, text in blocks(page):
        file = re.match(r"# ([\w./]+\.(?:py|yaml))\b.*\n", text)
        if file:
            (tmp_path / file[1]).write_text(text)
        if language == "yaml" and not (file and file[1].startswith("cluster")):
            planned(robsweep, tmp_path, text)
        elif language == "python":
            exec(compile(text, f"{page.name}", "exec"), names)
        elif language == "bash":
            for command in commands(text):
                called(robsweep, tmp_path, command)


def planned(robsweep, folder, text):
    """Plans a sweep, or sections in a sweep around them; those with own functions are run."""
    raw = yaml.safe_load(text)
    sweep = raw if "name" in raw else {**AROUND, **raw}
    (folder / "planned.yaml").write_text(yaml.safe_dump(sweep, sort_keys=False))
    code, out, err = robsweep("plan", "planned.yaml")
    assert code == 0, f"{err}\n{text}"
    assert "predict" in out
    if "name" not in raw and re.search(r"\"\w+:\w+\"", text):
        code, _, err = robsweep("run", "planned.yaml", "--store", "planned")
        assert code == 0, f"{err}\n{text}"


def commands(text):
    """The words of each command, without comments and variables that are set before."""
    for line in text.replace("\\\n", " ").splitlines():
        words = shlex.split(line, comments=True)
        command: list[str] = []
        for word in words:
            command.append(word.removesuffix(";"))
            if word.endswith(";") or word == "&&":
                yield [word for word in command if word != "&&"]
                command = []
        if command:
            yield command


def called(robsweep, folder, words):
    while "=" in words[0]:
        words = words[1:]
    program = words[0].removeprefix(".venv/bin/")
    if program == "make":
        assert re.search(rf"^{words[1]}:", (ROOT / "Makefile").read_text(), re.MULTILINE)
    elif program == "robsweep":
        words, into = (words[:-2], words[-1]) if ">" in words else (words, None)
        if runs_here(folder, words[1:]):
            code, out, err = robsweep(*words[1:])
            assert code == 0, f"{shlex.join(words)}: {err}"
            if into:
                (folder / into).write_text(out)
        else:
            understood(robsweep_command(), words[1:])
    elif program == "ray":
        from ray.scripts.scripts import cli

        understood(cli, words[1:])
    elif program == "python":
        subprocess.run([sys.executable, *words[1:]], cwd=folder, check=True)
    else:
        assert program in {"source", "cd", "git", "pip"}, f"nobody knows {shlex.join(words)}"


def runs_here(folder, words):
    """Whether a command needs nothing that is not in the page's folder."""
    command, about = words[0], words[1] if len(words) > 1 else ""
    if command in {"list", "init", "schema", "--version"}:
        return True
    if command == "plan":
        return (folder / about).is_file()
    if command == "run":
        return (folder / about).is_file() and not about.startswith("sweeps/")
    if command == "eval":
        return "digits" in words
    return (folder / "results" / "sweeps" / about).is_dir() and command in {"show", "status"}


def robsweep_command():
    import typer

    from robsweep.orchestrator.cli.main import app

    return typer.main.get_command(app)


def understood(command, words):
    """Parses a command line down to its last subcommand, without running it."""
    context = command.make_context(command.name or "", list(words), resilient_parsing=False)
    while hasattr(command, "resolve_command"):
        rest = [*context._protected_args, *context.args]
        name, command, rest = command.resolve_command(context, rest)
        context = command.make_context(name, rest, parent=context)


def test_the_readme_shows_the_quickstart():
    shown = next(text for language, text in blocks(ROOT / "README.md") if language == "yaml")
    assert yaml.safe_load(shown) == yaml.safe_load((ROOT / "sweeps/quickstart.yaml").read_text())
