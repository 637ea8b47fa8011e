"""Imported weights: published networks by name, files with a SHA-256, and URLs."""

import hashlib
import sys
import threading
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
import torch

from robsweep.orchestrator.errors import InputError, SpecError
from robsweep.tasks.catalogue import MODELS, NETS
from robsweep.tasks.catalogue.entries import Net
from robsweep.tasks.models.architectures.mlp import mlp
from robsweep.tasks.models.weights import put, to_bytes
from tests.stores import all_rows
from tests.sweeps import plan_of, spec_of, sweep

SWEEP = "name: imported\ndataset: digits\nsamples: 50\nmodels:\n  {}\n"
MNIST = "name: imported\ndataset: mnist\nmodels:\n  {}\n"


def weights(seed=0, **parameters):
    torch.manual_seed(seed)
    return to_bytes(mlp((1, 8, 8), 10, **parameters).state_dict())


def sha256(content):
    return hashlib.sha256(content).hexdigest()


def ref_of(text, **where):
    (ref,) = {id(p.measurement.model): p.measurement.model for p in planned(text, **where)}.values()
    return ref


def planned(text, **where):
    return plan_of(text, **where).measurements.values()


@pytest.fixture
def tiny(monkeypatch, tmp_path):
    """A published network in a nets dir: its content."""
    content = weights(hidden=(5,))
    net = Net("tiny.safetensors", "mlp", sha256(content), "of this test", {"hidden": (5,)})
    monkeypatch.setitem(NETS, "tiny", net)
    (tmp_path / "nets").mkdir()
    (tmp_path / "nets" / "tiny.safetensors").write_bytes(content)
    return content


def test_a_net_is_its_file_under_its_architecture(tiny, tmp_path):
    where = {"folder": tmp_path, "nets_dir": tmp_path / "nets"}
    ref = ref_of(SWEEP.format("mine: {net: tiny}"), **where)
    assert (ref.arch, ref.params, ref.weights_sha256) == ("mlp", {"hidden": [5]}, sha256(tiny))
    plain = SWEEP.format("mine: {arch: mlp, hidden: [5], weights: tiny.safetensors}")
    assert ref == ref_of(plain, **where)
    other = ref_of(SWEEP.format("mine: {net: tiny, activation: gelu}"), **where)
    assert other.params == {"hidden": [5], "activation": "gelu"}
    assert other.model_id != ref.model_id


def test_a_nets_architecture_can_be_another_one(tiny, tmp_path):
    (tmp_path / "mine.py").write_text("def net(shape, classes, *, scale): ...\n")
    text = SWEEP.format('mine: {net: tiny, arch: "mine:net", scale: 2}')
    ref = ref_of(text, folder=tmp_path, nets_dir=tmp_path / "nets")
    assert (ref.arch, ref.params) == ("mine:net", {"scale": 2})
    assert ref.weights_sha256 == sha256(tiny)


def test_nets_are_an_axis(tiny, monkeypatch):
    monkeypatch.setitem(NETS, "second", NETS["tiny"])
    assert list(spec_of(SWEEP.format("a: {net: [tiny, second]}")).models) == [
        "a[net=tiny]",
        "a[net=second]",
    ]


def test_the_file_beside_the_sweep_comes_first_and_must_be_the_right_one(tiny, tmp_path):
    text, where = SWEEP.format("mine: {net: tiny}"), tmp_path / "tiny.safetensors"
    where.write_bytes(tiny)
    assert ref_of(text, folder=tmp_path, nets_dir=tmp_path / "nets").weights == str(where)
    other = weights(seed=1, hidden=(5,))
    where.write_bytes(other)
    with pytest.raises(InputError) as caught:
        plan_of(text, folder=tmp_path, nets_dir=tmp_path / "nets")
    for said in (str(where), sha256(other), sha256(tiny)):
        assert said in str(caught.value)
    with pytest.raises(InputError, match=r"no weights 'tiny\.safetensors' in .*ROBSWEEP_NETS_DIR"):
        plan_of(text, folder=tmp_path / "nowhere")


def test_ones_own_file_may_be_held_to_its_sha256(tmp_path):
    content = weights()
    (tmp_path / "net.pt").write_bytes(content)
    text = SWEEP.format("mlp: {weights: net.pt, sha256: " + sha256(content).upper() + "}")
    plain = SWEEP.format("mlp: {weights: net.pt}")
    assert ref_of(text, folder=tmp_path) == ref_of(plain, folder=tmp_path)
    (tmp_path / "net.pt").write_bytes(content[:-1])
    with pytest.raises(InputError, match=f"expected {sha256(content)}"):
        plan_of(text, folder=tmp_path)


@pytest.mark.parametrize(
    ("model", "message"),
    [
        ("a: {net: wk17a_linf}", "did you mean 'wk17a_linf0.1'"),
        ("a: {net: 3}", "unknown net 3"),
        ("a: {net: wk17a_linf0.1, weights: x.pt}", "`weights`: leave it out"),
        ("a: {net: wk17a_linf0.1, sha256: x}", "`sha256`: leave it out"),
        ("a: {net: wk17a_linf0.1, hidden: 3}", "unknown key 'hidden'"),
        ("mlp: {sha256: " + 64 * "a" + "}", "name a file or URL"),
        ("mlp: {weights: x.pt, sha256: abc}", "64 digits from 0 to f"),
        ("mlp: {weights: 'https://a.b/c'}", "need `sha256:`"),
    ],
)
def test_mistakes_name_their_line(model, message):
    with pytest.raises(SpecError) as caught:
        spec_of(SWEEP.format(model))
    assert "sweep.yaml:5:" in str(caught.value)
    assert message in str(caught.value)


@pytest.mark.data
@pytest.mark.parametrize("name", ["wk17a_linf0.1", "rsl18a_linf0.1"])
def test_published_nets_are_what_they_were_by_file(name, nets_dir):
    arch = name.split("_")[0]
    by_name = MNIST.format(f"{arch}: {{net: {name}}}")
    by_file = MNIST.format(f"{arch}: {{weights: {name}.safetensors}}")
    assert ref_of(by_name, nets_dir=nets_dir) == ref_of(by_file, nets_dir=nets_dir)
    pinned = {"wk17a": "import-ee61b41fafb4bca5", "rsl18a": "import-518da82dbfe840ee"}
    assert ref_of(by_name, nets_dir=nets_dir).model_id == pinned[arch], "stores hold the old ids"


@pytest.mark.data
def test_files_of_the_published_nets_have_their_sha256(nets_dir):
    for net in NETS.values():
        assert sha256((nets_dir / net.file).read_bytes()) == net.sha256


def test_a_net_under_its_own_architecture_takes_its_parameters():
    for net in NETS.values():
        assert net.arch not in MODELS or {*net.parameters} <= {*MODELS[net.arch].parameters}


@pytest.fixture
def served(tmp_path):
    """A folder over HTTP: the folder, its URL, and the paths that were asked for."""
    (tmp_path / "served").mkdir()
    asked = []

    class Handler(SimpleHTTPRequestHandler):
        def log_message(self, *words):
            asked.append(self.path)

    handler = partial(Handler, directory=str(tmp_path / "served"))
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        yield tmp_path / "served", f"http://127.0.0.1:{server.server_port}", asked
        server.shutdown()
        thread.join()


def from_url(url, digest, name="imported"):
    text = SWEEP.format(f"mlp: {{weights: '{url}/net.pt', sha256: {digest}}}")
    return sweep(text.replace("imported", name))


def test_weights_of_a_url_are_downloaded_once_and_by_a_run(robsweep, tmp_path, served):
    folder, url, asked = served
    content = weights()
    (folder / "net.pt").write_bytes(content)
    file, nets = from_url(url, sha256(content)), ["--nets-dir", "nets"]
    assert robsweep("plan", file, *nets)[0] == 0
    assert asked == []
    code, _, err = robsweep("run", file, *nets)
    assert code == 0, err
    assert asked == ["/net.pt"]
    (kept,) = (tmp_path / "nets" / "downloads").iterdir()
    assert kept.read_bytes() == content
    # the same model as from a file, so there is nothing left to do
    (tmp_path / "net.pt").write_bytes(content)
    here = sweep(SWEEP.format("mlp: {weights: net.pt}"), "here.yaml")
    assert model_of(file) == model_of("here.yaml")
    assert robsweep("run", here)[0] == 0
    # a file in the cache that is not right is not believed
    kept.write_bytes(content[:-1])
    assert robsweep("run", from_url(url, sha256(content)), *nets, "--store", "again")[0] == 0
    assert asked == ["/net.pt"] * 2
    assert kept.read_bytes() == content


def model_of(file):
    return ref_of(Path(file).read_text()).model_id


def test_a_url_with_other_weights_or_none_leaves_nothing_behind(robsweep, tmp_path, served):
    folder, url, _ = served
    (folder / "net.pt").write_bytes(b"other")
    code, out, err = robsweep("run", from_url(url, 64 * "a"), "--nets-dir", "nets")
    assert (code, out) == (2, "")
    assert f"{url}/net.pt have SHA-256 {sha256(b'other')}, expected {64 * 'a'}" in err
    (folder / "net.pt").unlink()
    code, out, err = robsweep("run", from_url(url, 64 * "a"), "--nets-dir", "nets")
    assert (code, out) == (1, "")
    assert f"cannot download weights {url}/net.pt" in err
    assert list((tmp_path / "nets" / "downloads").iterdir()) == []
    assert not (tmp_path / "results").exists()


def test_downloads_need_a_folder_to_write_to(robsweep, tmp_path, served):
    folder, url, _ = served
    (folder / "net.pt").write_bytes(weights())
    (tmp_path / "nets").write_text("not a folder")
    code, _, err = robsweep("run", from_url(url, sha256(weights())), "--nets-dir", "nets")
    assert code == 2
    assert "a folder that you may write to" in err


def test_without_a_nets_dir_downloads_lie_in_the_users_cache(monkeypatch, tmp_path):
    monkeypatch.setenv("HOME", str(tmp_path))
    text = SWEEP.format(f"mlp: {{weights: 'https://a.b/net.pt', sha256: {64 * 'a'}}}")
    place = tmp_path / ".cache" / "robsweep" / "nets" / "downloads" / (64 * "a")
    ref = ref_of(text)
    assert (ref.weights, ref.weights_url) == (str(place), "https://a.b/net.pt")
    assert not place.parent.exists()


def test_eval_of_a_net_by_name(robsweep, tiny, tmp_path):
    pytest.importorskip("foolbox")
    words = ["--dataset", "digits", "--samples", "20", "--nets-dir", "nets"]
    code, out, err = robsweep("eval", "tiny", *words)
    assert code == 0, err
    assert "no --weights" not in err
    assert "linf" in out
    # by its architecture, it is the same model: nothing is computed again
    code, _, err = robsweep("eval", "mlp", "--net", "tiny", *words, "--store", "results")
    assert code == 0, err
    assert len(list((tmp_path / "results" / "sweeps").iterdir())) == 1


OWN = """
from torch import nn
from robsweep.tasks.models.architectures.mlp import mlp

def net(shape, classes, *, width, curve="relu"):
    return mlp(shape, classes, hidden=[width], activation=curve)

def large(shape, classes):
    return nn.Sequential(nn.Flatten(), nn.Linear(784, classes))
"""


@pytest.fixture
def own(tmp_path):
    (tmp_path / "own_imported.py").write_text(OWN)
    yield "own_imported"
    sys.modules.pop("own_imported", None)


def test_ones_own_function_takes_parameters_and_weights_of_either_format(robsweep, own):
    content = weights(hidden=(7,))
    Path("a.safetensors").write_bytes(content)
    state = mlp((1, 8, 8), 10, hidden=(7,))
    put(state, content, "a")
    torch.save(state.state_dict(), "b.pt")
    one = "arch: '{}:net', width: 7, weights: {}"
    models = [
        f"{name}: {{{one.format(own, file)}}}"
        for name, file in (("first", "a.safetensors"), ("second", "b.pt"))
    ]
    code, out, err = robsweep("run", sweep(SWEEP.format("\n  ".join(models))))
    assert code == 0, err
    assert "first" in out
    rows = all_rows("results", "predictions").to_pylist()
    logits = {}
    for row in rows:
        logits.setdefault(row["model_id"], {})[row["sample"]] = row["logits"]
    first, second = logits.values()
    assert len(first) == 250  # whole groups
    assert first == second


@pytest.mark.parametrize(
    ("model", "message"),
    [
        ("m: {{arch: '{}:net', width: 7, weights: a}}", "has shape (5, 64), the model wants (7"),
        ("m: {{arch: '{}:net', weights: a}}", "missing 1 required keyword-only argument: 'width'"),
        ("m: {{arch: '{}:net', width: 5, depth: 1, weights: a}}", "unexpected keyword argument"),
        ("m: {{arch: '{}:large', train: false}}", "must take float32 batches (N, 1, 8, 8)"),
        ("m: {{arch: an_k3, weights: a}}", "at least 21x21 pixels, got inputs of shape (1, 8, 8)"),
        ("m: {{arch: madry, weights: a}}", "'conv1.bias' is missing"),
    ],
)
def test_a_model_that_does_not_fit_is_one_message(robsweep, own, tmp_path, model, message):
    (tmp_path / "a").write_bytes(weights(hidden=(5,)))
    code, out, err = robsweep("run", sweep(SWEEP.format(model.format(own))))
    assert (code, out) == (2, ""), err
    assert message in err
    assert len(err.splitlines()) == 1
    assert not (tmp_path / "results").exists()


def test_nets_are_listed(robsweep):
    code, out, _ = robsweep("list", "nets")
    assert code == 0
    assert "wk17a_linf0.1     wk17a; wk17a_linf0.1.safetensors; Wong & Kolter 2018" in out
    assert all(net.sha256 in out for net in NETS.values())
