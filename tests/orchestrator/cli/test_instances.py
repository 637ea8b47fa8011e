"""Lists of instances survive whatever is in them: one row per line, errors with their reasons."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from robsweep.orchestrator.cli import instance_worker
from tests.tasks.verification.reading.onnx_files import declared, write

for library in ("onnx", "ortools"):
    pytest.importorskip(library)

ROOT = Path(__file__).parents[3]
BOX = declared(1, 1) + "(assert (>= X_0 0))(assert (<= X_0 1))"
# What crashes, hangs or raises is told by the property's name.
CHILD = """
import os, signal, time
from robsweep.tasks.verification import instance, instance_process
once = instance.verify
def verify(onnx, vnnlib, limit, solver):
    if "crash" in vnnlib:
        os.kill(os.getpid(), signal.SIGSEGV)
    if "hang" in vnnlib:
        time.sleep(600)
    if "fault" in vnnlib:
        raise IndexError("of ours\\nsomewhere")
    print("a solver's own words")
    return once(onnx, vnnlib, limit, solver)
instance.verify = verify
instance_process.main()
"""


@pytest.fixture
def folder(tmp_path):
    from onnx import helper

    (tmp_path / "nets").mkdir()
    write(tmp_path / "nets" / "net.onnx", [helper.make_node("Relu", ["x"], ["y"])], {}, [1, 1])
    for name in ("crash", "hang", "fault", "unsat"):
        (tmp_path / f"{name}.vnnlib").write_text(BOX + "(assert (>= Y_0 2))")
    (tmp_path / "sat.vnnlib").write_text(BOX + "(assert (>= Y_0 0.5))")
    return tmp_path


def rows(text):
    """Without their seconds."""
    return [line.rsplit(",", 1)[0] for line in text.splitlines()[1:]]


def test_a_row_for_each_line_whatever_is_in_it(folder, robsweep, monkeypatch):
    """Over a second: three processes start."""
    monkeypatch.setattr(instance_worker, "COMMAND", ("-P", "-c", CHILD))
    monkeypatch.setattr(instance_worker, "_GRACE", 3.0)
    net = "../nets/net.onnx"
    lines = {
        f"{net},../sat.vnnlib,20": "sat",
        f"{net},../crash.vnnlib,20": "died of signal 11",
        f"{net},../unsat.vnnlib,20": "unsat",
        f"{net},../fault.vnnlib,20": "IndexError: of ours somewhere",
        f"{net},../absent.vnnlib,20": "absent.vnnlib: no such file",
        f"absent.onnx,{folder / 'sat.vnnlib'},20": "absent.onnx: no such file",
        f"../sat.vnnlib,{net},20": "not an ONNX file",
        f"{net},../hang.vnnlib,0.5": "timeout",
        "one": "line 9: has 1 columns",
        f"{net},../sat.vnnlib": "line 10: has 2 columns",
        f"{net},../sat.vnnlib,0": "line 11: time limit 0: must be above 0",
        f"{net},../sat.vnnlib,-3": "time limit -3",
        f"{net},../sat.vnnlib,nan": "time limit nan",
        f"{net},../sat.vnnlib,soon": "'soon' is no number",
        f'"{net},../sat.vnnlib,20': "line 15: has 1 columns",
        "\x00,\ufffd,9": "cannot be read",
        f"{net}, ../sat.vnnlib , 20 ,more,columns": "sat",
        f"{folder / 'nets' / 'net.onnx'},{folder / 'unsat.vnnlib'},inf": "unsat",
    }
    (folder / "lists").mkdir()
    (folder / "lists" / "list.csv").write_text("\n\n".join(lines).replace("\n\n", "\n"))
    code, out, err = robsweep("verify", "--instances", "lists/list.csv", "--out", "ours.csv")
    assert code == 1
    assert (folder / "ours.csv").read_text() == out
    verdicts = [row.rsplit(",", 1)[1] for row in rows(out)]
    wanted = list(lines.values())
    assert verdicts == [w if w in ("sat", "unsat", "timeout") else "error" for w in wanted]
    said = err.splitlines()
    for words in wanted:
        if words not in ("sat", "unsat", "timeout"):
            assert any(words in line for line in said), words
    assert len([line for line in said if line.startswith("robsweep: ")]) == verdicts.count("error")
    assert "Traceback" not in err


def test_headers_gzipped_files_and_no_errors(folder, robsweep):
    import gzip

    for name in ("nets/net.onnx", "sat.vnnlib"):
        file = folder / name
        file.with_name(file.name + ".gz").write_bytes(gzip.compress(file.read_bytes()))
        file.unlink()
    text = "\ufefftimeout_seconds,vnnlib,onnx\r\n20,sat.vnnlib.gz,nets/net.onnx\r\n"
    (folder / "list.csv").write_text(text + "20,sat.vnnlib,nets/net.onnx.gz\r\n\r\n")
    code, out, err = robsweep("verify", "--instances", "list.csv")
    assert (code, err) == (0, "")
    assert [row.rsplit(",", 1)[1] for row in rows(out)] == ["sat", "sat"]
    (folder / "empty.csv").write_text("\n \n")
    assert "lists no instance" in robsweep("verify", "--instances", "empty.csv")[2]


def test_finished_rows_are_there_after_a_kill_and_no_child_is(folder):
    """Over a second: two processes start."""
    code = "from robsweep.orchestrator.cli import instance_worker, main\n"
    code += f"instance_worker.COMMAND = ('-P', '-c', {CHILD!r})\nmain.main()"
    lines = [f"nets/net.onnx,{name}.vnnlib,600" for name in ("sat", "unsat", "hang")]
    (folder / "list.csv").write_text("\n".join(lines))
    words = ["verify", "--instances", "list.csv", "--out", "ours.csv"]
    process = subprocess.Popen(
        [sys.executable, "-c", code, *words],
        cwd=folder,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        stdout=subprocess.PIPE,
        text=True,
    )
    printed = [process.stdout.readline() for _ in range(3)]
    time.sleep(0.5)
    children = subprocess.run(
        ["ps", "--ppid", str(process.pid), "-o", "pid="], capture_output=True, text=True, check=True
    ).stdout.split()
    process.send_signal(signal.SIGKILL)
    process.wait()
    process.stdout.close()
    assert (folder / "ours.csv").read_text() == "".join(printed)
    assert [line.split(",")[2] for line in printed[1:]] == ["sat", "unsat"]
    end = time.monotonic() + 30
    while time.monotonic() < end and any(Path(f"/proc/{pid}").exists() for pid in children):
        time.sleep(0.1)
    assert children
    assert not any(Path(f"/proc/{pid}").exists() for pid in children)


def test_one_instance_that_fails_is_told_in_a_line(folder, robsweep, monkeypatch):
    from robsweep.tasks.verification import instance

    def verify(*_):
        raise ZeroDivisionError("of ours")

    monkeypatch.setattr(instance, "verify", verify)
    code, out, err = robsweep("verify", "nets/net.onnx", "sat.vnnlib")
    assert (code, out) == (2, "")
    assert "could not be decided: ZeroDivisionError: of ours" in err
    assert err.count("\n") == 1
