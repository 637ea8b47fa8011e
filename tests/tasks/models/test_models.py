import io
import pickle
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import fx, nn

from robsweep.tasks.catalogue import MODELS
from robsweep.tasks.data.load import load as load_data
from robsweep.tasks.errors import InputError
from robsweep.tasks.job import Inputs, ModelRef, Setting
from robsweep.tasks.jobs import run
from robsweep.tasks.logits import logits_of
from robsweep.tasks.models.load import build, load
from robsweep.tasks.models.weights import put, sha256, to_bytes
from tests.tasks.digit_jobs import MLP, job_of

CPU = torch.device("cpu")


# searched, or nothing yet to be near to: see test_abs.py and test_nearest_neighbour.py
OF_THEIR_OWN = {"onnx", "ensemble", "nearest_neighbour", "abs", "binary_abs"}


def ref_of(arch: str, shape: tuple[int, ...] = (1, 28, 28)) -> ModelRef:
    return ModelRef("m", arch, MODELS[arch].parameters if arch in MODELS else {}, shape, 10)


@pytest.mark.parametrize(
    ("arch", "shape"),
    [
        *((arch, (1, 28, 28)) for arch in MODELS if arch not in OF_THEIR_OWN),
        ("mlp", (1, 8, 8)),
        ("mlp", (5,)),
        ("cnn_small", (1, 8, 8)),
        ("cnn_small", (3, 9, 11)),
        ("cnn", (3, 32, 20)),
        ("an_k3", (3, 21, 23)),
        ("an_k7", (3, 25, 26)),
        ("an_k3_shallow", (2, 11, 12)),
        ("an_k5_shallow", (3, 13, 13)),
    ],
)
def test_models_give_logits(arch: str, shape: tuple[int, ...]) -> None:
    images = torch.rand(3, *shape)
    model = build(ref_of(arch, shape)).eval()
    logits = logits_of(model, images)
    assert logits.shape == (3, 10)
    assert not torch.equal(logits, logits_of(model, torch.rand(3, *shape)))


@pytest.mark.parametrize("arch", ["mlp", "cnn_small", "cnn", "wk17a", "rsl18a"])
def test_models_can_be_read_as_a_chain_of_layers(arch: str) -> None:
    graph = fx.symbolic_trace(build(ref_of(arch)).eval()).graph
    assert {node.op for node in graph.nodes} == {"placeholder", "call_module", "output"}


def test_cnn_is_as_large_as_the_published_one() -> None:
    assert sum(p.numel() for p in build(ref_of("cnn")).parameters()) == 21_840


@pytest.mark.parametrize(
    ("ref", "why"),
    [
        (ref_of("cnn", (1, 8, 8)), "at least 16x16"),
        (ref_of("an_k3", (1, 20, 28)), "'an_k3' needs images .* at least 21x21"),
        (ref_of("an_k7", (1, 24, 24)), "at least 25x25"),
        (replace(ref_of("an_k5"), params={"activation": "rely"}), "there are relu, gelu"),
        (ref_of("wk17a", (1, 8, 8)), "takes MNIST images"),
        (ref_of("rsl18a", (1, 8, 8)), "takes MNIST images"),
        (ref_of("onnx"), "give it as `weights: FILE.onnx`"),
        (ref_of("ensemble"), "give it as `members:"),
        (ref_of("mpl"), "neither a catalogue name nor"),
        (ref_of("no_such_module:net"), "importing module 'no_such_module' raised"),
        (ref_of("robsweep.tasks.models.architectures.mlp:net"), "has no function 'net'"),
        (ref_of("math:gcd"), "must return a torch.nn.Module|cannot be built"),
        (replace(MLP, params={"hiden": 3}), "cannot be built .* unexpected keyword"),
    ],
)
def test_models_that_cannot_be_built(ref: ModelRef, why: str) -> None:
    with pytest.raises(InputError, match=why):
        build(ref)


def test_loaded_models_are_frozen_and_kept(weights: Inputs) -> None:
    loaded = load(MLP, weights.weights, CPU)
    assert not loaded.model.training
    assert not any(p.requires_grad for p in loaded.model.parameters())
    assert loaded.parameters == 64 * 32 + 32 + 32 * 10 + 10
    assert weights.weights is not None
    assert loaded.weights_sha256 == sha256(weights.weights)
    assert load(MLP, weights.weights, CPU).model is loaded.model


def test_weights_survive_the_way_through_bytes() -> None:
    torch.manual_seed(1)
    state = build(MLP).state_dict()
    content = to_bytes(state)
    assert content == to_bytes(dict(reversed(state.items())))
    loaded = load(MLP, content, CPU).model.state_dict()
    assert all(torch.equal(loaded[name], state[name]) for name in state)


def test_torch_files_are_read_without_pickle(tmp_path: Path) -> None:
    state = build(MLP).state_dict()
    file = tmp_path / "net.pt"
    torch.save({"state_dict": state}, file)
    loaded = load(replace(MLP, weights=str(file)), None, CPU)
    assert torch.equal(loaded.model.state_dict()["fc1.weight"], state["fc1.weight"])
    assert loaded.weights_sha256 == sha256(file.read_bytes())


def saved(value: object) -> bytes:
    buffer = io.BytesIO()
    torch.save(value, buffer)
    return buffer.getvalue()


@pytest.mark.parametrize("prefix", ["", "module.", "_orig_mod.", "_orig_mod.module."])
@pytest.mark.parametrize("around", [None, "net", "model", "state_dict", "model_state_dict"])
def test_what_checkpoints_add_to_weights_is_taken_off_and_said(
    around: str | None, prefix: str
) -> None:
    torch.manual_seed(2)
    state = build(MLP).state_dict()
    named = {f"{prefix}{name}": tensor for name, tensor in state.items()}
    content = saved(named if around is None else {around: named, "epoch": 3, "ema": {"a": 1}})
    loaded = load(MLP, content, CPU)
    assert all(torch.equal(loaded.model.state_dict()[name], state[name]) for name in state)
    said = [repr(word) for word in (around, prefix) if word]
    assert len(loaded.notes) == len(said)
    assert all(word in note for word, note in zip(said, loaded.notes, strict=True))


def test_a_models_own_prefix_stays_and_two_state_dicts_are_one_too_many() -> None:
    wrapped = nn.DataParallel(nn.Linear(2, 2))
    other = nn.DataParallel(nn.Linear(2, 2))
    assert put(other, saved(wrapped.state_dict()), "here") == ()
    assert torch.equal(other.module.weight, wrapped.module.weight)
    assert len(put(other, saved(nn.DataParallel(wrapped).state_dict()), "here")) == 1
    both = {"net": wrapped.state_dict(), "model": wrapped.state_dict()}
    with pytest.raises(InputError, match=r"several state dicts \(model, net\)"):
        put(other, saved(both), "here")
    part = {"module.module.weight": torch.zeros(2, 2), "bias": torch.zeros(2)}
    with pytest.raises(InputError, match="'bias' is unexpected"):
        put(other, saved(part), "here")


def test_damaged_or_foreign_weights_are_refused() -> None:
    state = build(MLP).state_dict()
    good = to_bytes(state)
    bad = state["fc2.bias"].clone()
    bad[3] = torch.nan
    cases = [
        (good[:-100], "damaged safetensors"),
        (good[:50], "damaged safetensors"),
        (b"", "neither safetensors nor"),
        (pickle.dumps(state), "neither safetensors nor"),
        (saved(nn.Linear(1, 1)), "neither safetensors nor"),
        (saved([1, 2]), "hold no state dict"),
        (to_bytes({k: v for k, v in state.items() if k != "fc1.bias"}), "'fc1.bias' is missing"),
        (to_bytes({**state, "fc9.bias": bad}), "'fc9.bias' is unexpected"),
        (to_bytes({**state, "fc1.bias": bad}), r"'fc1.bias' has shape \(10,\), the model wants"),
        (to_bytes({**state, "fc2.bias": bad}), "'fc2.bias' is not finite"),
    ]
    for content, why in cases:
        with pytest.raises(InputError, match=why):
            load(MLP, content, CPU)


def test_other_weights_than_the_named_ones_are_refused(weights: Inputs) -> None:
    with pytest.raises(InputError, match="expected 123"):
        load(replace(MLP, weights_sha256="123"), weights.weights, CPU)
    with pytest.raises(InputError, match="no weights file"):
        load(replace(MLP, weights="/no/file.pt"), None, CPU)


OWN = """
import torch
from torch import nn

def good(shape, classes):
    return nn.Sequential(nn.Flatten(), nn.Linear(64, classes))

def wide(shape, classes):
    return nn.Sequential(nn.Flatten(), nn.Linear(64, classes + 1))

def double(shape, classes):
    return good(shape, classes).double()

class Nan(nn.Module):
    def forward(self, x):
        return torch.full((len(x), 10), float("nan"))

def nan(shape, classes):
    return Nan()
"""


def test_preflight_of_a_users_models(tmp_path: Path) -> None:
    (tmp_path / "own_nets.py").write_text(OWN)
    setting = Setting(data_dir="", import_paths=(str(tmp_path),))
    cases = {
        "wide": r"'own_nets:wide'.*gave shape \(2, 11\), not logits \(2, 10\)",
        "double": "raised RuntimeError",
        "nan": "not finite",
        "none": "has no function 'none'",
    }
    for name, why in cases.items():
        ref = replace(MLP, arch=f"own_nets:{name}", params={})
        with pytest.raises(InputError, match=why):
            run(job_of("preflight", {}, model=ref, setting=setting), Inputs())
    good = replace(MLP, arch="own_nets:good", params={})
    assert not run(job_of("preflight", {}, model=good, setting=setting), Inputs()).tables
    with pytest.raises(InputError, match=r"takes inputs of shape \(1, 28, 28\), data set 'digits'"):
        run(job_of("preflight", {}, model=ref_of("wk17a")), Inputs())
    with pytest.raises(InputError, match="only 3 classes"):
        run(job_of("predict", {"source": "clean"}, 0, 250, model=replace(MLP, classes=3)), Inputs())


def test_preflight_of_a_solvers_parameters() -> None:
    pytest.importorskip("ortools")
    engine = {"solver": "scip", "tightening": "lp", "solver_parameters": {"limits/nodes": 5}}
    assert not run(job_of("preflight", {"engines": [engine]}), Inputs()).tables
    wrong = {**engine, "solver_parameters": {"limits/nodez": 5}}
    with pytest.raises(InputError, match="limits/nodez = 5: it has no such parameter"):
        run(job_of("preflight", {"engines": [engine, wrong]}), Inputs())


def test_many_passes_change_the_layout_of_pooling_models_of_the_catalogue_only() -> None:
    pooling, strided = ref_of("cnn"), ref_of("cnn_small")
    images = torch.rand(20, 1, 28, 28)
    for ref, changed in ((pooling, True), (strided, False)):
        plain, fast = (load(ref, None, CPU, many_passes=many) for many in (False, True))
        assert fast.weights_sha256 == plain.weights_sha256
        torch.testing.assert_close(fast.model(images), plain.model(images))
        weight = fast.model.conv2.weight
        assert weight.is_contiguous(memory_format=torch.channels_last) == changed
        assert plain.model.conv2.weight.is_contiguous()
    own = replace(pooling, arch="tests.tasks.models.test_models:viewing_cnn", params={})
    assert load(own, None, CPU, many_passes=True).model(images).shape == (20, 10)


def viewing_cnn(shape: tuple[int, ...], classes: int) -> nn.Module:
    class Viewing(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.convolution, self.out = nn.Conv2d(1, 2, 5), nn.Linear(2 * 24 * 24, classes)

        def forward(self, images: torch.Tensor) -> torch.Tensor:
            # as many models do, which is refused where the layout is another
            return self.out(self.convolution(images).view(-1, 2 * 24 * 24))

    return Viewing()


def from_starts(model, images, labels, *, starting_points, radius):  # type: ignore[no-untyped-def]
    return starting_points


def test_preflight_of_an_attack_that_asks_for_what_the_job_gives() -> None:
    path = "tests.tasks.models.test_models:from_starts"
    preflight = {"functions": [["attack", path, {"radius": 1}]]}
    assert not run(job_of("preflight", preflight), Inputs()).tables
    with pytest.raises(InputError, match="missing a required argument: 'radius'"):
        run(job_of("preflight", {"functions": [["attack", path, {}]]}), Inputs())


@pytest.mark.data
def test_wk17a_misclassifies_8_of_the_first_500(data_dir: Path, nets_dir: Path) -> None:
    ref = replace(ref_of("wk17a"), weights=str(nets_dir / "wk17a_linf0.1.safetensors"))
    loaded = load(ref, None, CPU)
    assert loaded.weights_sha256.startswith("847e160ddaad")
    images, labels = (tensor[:500] for tensor in load_data("mnist", "test", str(data_dir)))
    assert int((logits_of(loaded.model, images).argmax(dim=1) != labels).sum()) == 8


@pytest.mark.data
def test_rsl18a_misclassifies_418_of_all(data_dir: Path, nets_dir: Path) -> None:
    ref = replace(ref_of("rsl18a"), weights=str(nets_dir / "rsl18a_linf0.1.safetensors"))
    loaded = load(ref, None, CPU)
    assert loaded.weights_sha256.startswith("2f436b574886")
    images, labels = load_data("mnist", "test", str(data_dir))
    assert int((logits_of(loaded.model, images).argmax(dim=1) != labels).sum()) == 418
