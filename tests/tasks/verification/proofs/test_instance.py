"""Certificates of VNN-LIB properties, from the command line too."""

import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from robsweep.orchestrator.cli import main as cli
from robsweep.tasks.certificates.network import evaluate as values_of
from robsweep.tasks.verification.proofs.branching import NotShownError
from robsweep.tasks.verification.proofs.instance import certificates_of, checked
from robsweep.tasks.verification.proofs.layers import chain_of
from robsweep.tasks.verification.reading.layers import evaluate
from robsweep.tasks.verification.reading.torch.module import read
from tests.tasks.verification.reading.onnx_files import ball_file, dense_file
from tests.tasks.verification.small_nets import Functional, Residual, dense

for library in ("onnx", "vnnlib"):
    pytest.importorskip(library)


@pytest.mark.parametrize(
    ("module", "shape"),
    [
        (dense(0, 3, 5, 4), (3,)),
        (Functional(), (2, 8, 8)),
        (Residual(), (1, 4, 4)),
        (nn.Sequential(nn.Linear(3, 4), nn.LeakyReLU(0.1), nn.Linear(4, 2)), (3,)),
        (nn.Sequential(nn.Conv2d(1, 2, 2), nn.ReLU(), nn.AvgPool2d(2), nn.Flatten()), (1, 5, 5)),
    ],
)
def test_the_chain_computes_what_the_layers_compute(module: nn.Module, shape) -> None:
    torch.manual_seed(0)
    network = read(module.eval().requires_grad_(False), shape)
    chain = chain_of(network)
    for _ in range(5):
        x = torch.rand(1, *shape, dtype=torch.float64) * 2 - 0.5
        expected = evaluate(network, x)[-1].flatten().numpy()
        assert np.allclose(values_of(chain, x.flatten().numpy())[-1], expected, atol=1e-9)


def test_a_curve_has_no_certificate() -> None:
    module = nn.Sequential(nn.Linear(3, 4), nn.Sigmoid(), nn.Linear(4, 2)).requires_grad_(False)
    with pytest.raises(NotShownError, match="sigmoid"):
        chain_of(read(module, (3,)))


def files(folder: Path) -> tuple[str, str, str, str]:
    """A network, a property that holds, the same of a wider box, and another network."""
    net, x = dense(1, 2, 4, 3, 3), torch.tensor([[0.8, 0.7]])
    label = int(net(x).argmax())
    onnx = dense_file(folder / "net.onnx", net)
    held = ball_file(folder / "p.vnnlib", x, 0.02, label, 3)
    wider = ball_file(folder / "q.vnnlib", x, 0.021, label, 3)
    net[0].bias[0] += 1e-3
    return onnx, held, wider, dense_file(folder / "other.onnx", net)


def test_a_property_is_proved_and_checked(tmp_path: Path) -> None:
    onnx, held, wider, other = files(tmp_path)
    content = certificates_of(onnx, held, 60.0).content
    assert content is not None
    assert checked(onnx, held, content).accepted
    assert "another question" in checked(onnx, wider, content).why
    assert checked(other, held, content).why == "of another network"
    assert "no certificate" in checked(onnx, held, b"garbage").why


def test_the_command_writes_checks_and_exports(tmp_path: Path, monkeypatch, capsys) -> None:
    onnx, held, wider, other = files(tmp_path)
    proof, trees = str(tmp_path / "proof.zip"), tmp_path / "trees"

    def called(*words: str) -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", ["robsweep", "verify", *words])
        with pytest.raises(SystemExit) as caught:
            cli.main()
        return int(caught.value.code or 0), *capsys.readouterr()

    code, out, err = called(onnx, held, "--time-limit", "60", "--certificate", proof)
    assert (code, out) == (0, "unsat\n")
    assert "bytes" in err
    code, out, _ = called(onnx, held, "--check", proof, "--aptp", str(trees))
    assert code == 0
    assert out.startswith("accepted: ")
    assert len(list(trees.glob("*.aptp"))) == 2
    for words, message in (
        ((onnx, wider, "--check", proof), "of another question"),
        ((other, held, "--check", proof), "of another network"),
        ((onnx, held, "--check", str(tmp_path / "none")), "cannot be read"),
        ((onnx, held, "--aptp", str(trees)), "give it with --check"),
        (("--instances", held, "--certificate", proof), "one network and property"),
    ):
        code, _, err = called(*words)
        assert code == 2, err
        assert message in err
