import importlib
import sys
from pathlib import Path
from types import ModuleType

import pytest
import torch


@pytest.mark.slow  # tens of seconds: it runs each of its parts once
def test_the_gpu_benchmark_runs_without_a_gpu(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    from benchmarks import gpu

    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(gpu, "REPEATS", 1)
    monkeypatch.setattr(sys, "argv", ["gpu.py", "--batches", "1", "--eps", "0.01"])
    gpu.main()
    out = capsys.readouterr().out
    for name in ("wk17a", "rsl18a"):
        for stage in ("interval", "crown"):
            assert f"| {name} | cpu | 1 | {stage} | " in out
    assert "Skipped: everything on a GPU" in out


@pytest.fixture
def scripts(monkeypatch: pytest.MonkeyPatch) -> tuple[ModuleType, ModuleType]:
    """Of soundness and of minima, which import each other as scripts do."""
    for library in ("ortools", "sklearn"):
        pytest.importorskip(library)
    monkeypatch.syspath_prepend(Path(__file__).parents[1] / "benchmarks")
    soundness, minima = (importlib.import_module(name) for name in ("soundness", "minima"))
    monkeypatch.setattr(soundness, "CORNERS", 50)
    return soundness, minima


def test_the_benchmarks_of_soundness_find_no_contradiction_in_small(
    scripts: tuple[ModuleType, ModuleType],
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """Seconds: it trains an epoch, and three radii are found by a dozen MILPs each."""
    soundness, minima = scripts
    arguments = "--eps 0.01 --images 10 --epochs 1 --samples 2 --restarts 4 --steps 20"
    monkeypatch.setattr(sys, "argv", ["soundness.py", *arguments.split(), "--time-limit", "0.1"])
    assert soundness.main() == 0
    monkeypatch.setattr(sys, "argv", ["minima.py", "--questions", "3", "--time-limit", "0.1"])
    assert minima.main() == 0
    out = capsys.readouterr().out
    assert "2 verified: 0 broken" in out
    assert "0 below the verifier's lower bound" in out
    assert "falsified: " in out
    assert "3 questions on tiny networks: " in out
    assert "CONTRADICT" not in out


@pytest.mark.parametrize("verdict", ["verified", "falsified"])
def test_the_benchmarks_of_soundness_notice_a_lie(
    verdict: str,
    scripts: tuple[ModuleType, ModuleType],
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """Of a verifier that always says the same; a second or two, as it trains an epoch."""
    soundness, minima = scripts
    lie = soundness.Row(verdict, "crown", lower_bound=0.1, upper_bound=0.2)
    for script in scripts:
        monkeypatch.setattr(script, "decided", lambda net, data, *_: [lie] * len(data.labels))
    monkeypatch.setattr(minima, "METHODS", (minima.STAGES,))
    monkeypatch.setattr(sys, "argv", ["minima.py", "--questions", "6"])
    assert minima.main() == 1
    assert "CONTRADICTION: " in capsys.readouterr().out
    if verdict == "verified":
        arguments = "--eps 0.4 --images 6 --epochs 1 --samples 3 --restarts 2 --steps 5"
        monkeypatch.setattr(sys, "argv", ["soundness.py", *arguments.split()])
        assert soundness.main() == 1
        out = capsys.readouterr().out
        assert "3 verified: 3 broken" in out
        assert "3 below the verifier's lower bound" in out
