import sys

import pytest
import torch


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
