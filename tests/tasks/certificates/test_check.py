"""The second program: what it bounds holds, what it accepts is true, what is changed it refuses."""

import json
from dataclasses import replace
from fractions import Fraction

import numpy as np
import pytest
import torch

from robsweep.tasks.certificates.arithmetic import Arithmetic
from robsweep.tasks.certificates.certificate import (
    Certificate,
    Claim,
    Leaf,
    Node,
    _seal,
    decoded,
    encoded,
)
from robsweep.tasks.certificates.check import check
from robsweep.tasks.certificates.network import (
    Affine,
    Network,
    Question,
    Relu,
    evaluate,
    question,
)
from robsweep.tasks.certificates.passes import Choice, Passes
from robsweep.tasks.verification.proofs.prove import certified
from robsweep.tasks.verification.proofs.splitting import Boxes
from tests.tasks.certificates.small import asked, lowest_seen, network
from tests.tasks.recheck.test_network import residual
from tests.tasks.recheck.test_proofs import pooled
from tests.tasks.verification.small_nets import dense, smallest_margin

LEAF = Node(Leaf())
BOTH = pytest.mark.parametrize("exact", [True, False])


def resealed(body: dict) -> bytes:
    """As somebody would who knows how it is sealed."""
    body.pop("sha256", None)
    return json.dumps(body | {"sha256": _seal(body)}).encode()


def branched() -> tuple[Network, Question, bytes]:
    """A proof with claims, splits, slopes and multipliers."""
    net = network(dense(2, 4, 16, 16, 3), 4)
    centre = np.full(4, 0.8)
    what = asked(centre, 0.2335, int(evaluate(net, centre)[-1].argmax()), 3)
    made = certified(net, what, 120.0)
    assert made.content is not None, made.why
    return net, what, made.content


@pytest.fixture(scope="module")
def proof() -> tuple[Network, Question, bytes]:
    return branched()


@BOTH
@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("kind", ["dense", "pooled", "residual"])
def test_bounds_hold_at_every_point(kind: str, seed: int, exact: bool) -> None:
    nets = {
        "dense": (dense(seed, 3, 6, 5, 3), (3,)),
        "pooled": (pooled(seed), (1, 3, 3)),
        "residual": (residual(seed), (1, 4, 4)),
    }
    if exact and (seed or kind == "residual"):
        pytest.skip("rationals of so many digits take seconds")
    module, shape = nets[kind]
    net = network(module, *shape)
    passes = Passes(net, Arithmetic(exact))
    rng = np.random.default_rng(seed)
    centre = rng.uniform(size=net.inputs)
    known = passes.start(centre - 0.1, centre + 0.1)
    points = [rng.uniform(centre - 0.1, centre + 0.1) for _ in range(300)]
    values = [evaluate(net, x) for x in points]
    tighter = 0
    for value in range(1, len(net.layers) + 1):
        if kind != "residual" or value in net.bent() or value == len(net.layers):
            before = known.upper[value] - known.lower[value]
            passes.bound(known, value)
            passes.forward(known, value)
            tighter += int((known.upper[value] - known.lower[value] < before).sum())
        for one in values:
            assert (one[value] >= known.lower[value].astype(float) - 1e-9).all()
            assert (one[value] <= known.upper[value].astype(float) + 1e-9).all()
    assert tighter > 0
    # any slopes and any form: a bound still
    rows = rng.normal(size=(4, net.sizes()[-1]))
    slopes = {
        k: (np.arange(n), passes.arithmetic.array(rng.integers(0, 65, n)) / 64)
        for k in net.bent()
        if (n := net.sizes()[k])
    }
    array = passes.arithmetic.array
    low = passes.lowest(known, len(net.layers), array(rows), array(np.ones(4)), Choice(slopes))
    for one in values:
        assert (rows @ one[-1] + 1 >= low.astype(float) - 1e-9).all()


def test_float64_stays_below_the_rationals_by_no_more_than_rounding() -> None:
    net = network(dense(1, 4, 10, 8, 3), 4)
    what = asked(np.full(4, 0.5), 0.2, 0, 3)
    lows = []
    for exact in (True, False):
        passes = Passes(net, Arithmetic(exact))
        known = passes.start(what.lower, what.upper)
        rows = passes.arithmetic.array(np.eye(3))
        low = passes.lowest(known, len(net.layers), rows, passes.arithmetic.zeros(3), Choice())
        lows.append(low)
    assert isinstance(lows[0][0], Fraction)
    gaps = [float(a - Fraction(float(b))) for a, b in zip(*lows, strict=True)]
    assert all(0 < gap < 1e-11 for gap in gaps), gaps


@pytest.mark.parametrize("scale", [1.0, 1e8, 1e16])
def test_rounding_is_never_in_a_proofs_favour(scale: float) -> None:
    """Sums in which large terms cancel: 0 over the reals, anything in float64."""
    for seed in range(4):
        rng = np.random.default_rng(seed)
        slope, half = np.tile(rng.uniform(size=30), 2), rng.normal(size=30) * scale
        order = rng.permutation(60)
        weights = np.concatenate([half, -half])[order]
        net = Network(
            1,
            (
                Affine(np.arange(61), np.zeros(60, dtype=np.int64), slope[order], np.ones(60)),
                Relu(np.ones(60, dtype=bool)),
                Affine(np.array([0, 60]), np.arange(60), weights, np.zeros(1)),
            ),
        )
        what = question([0.25], [0.75], [[[1.0]]], [[0.0]])
        content = encoded(Certificate(net.digest(), what.digest(), (), (LEAF,)))
        for exact in (True, False):
            assert "not above 0" in check(net, what, content, exact=exact).why
        above = question([0.25], [0.75], [[[1.0]]], [[1e-2 * scale]])
        content = encoded(Certificate(net.digest(), above.digest(), (), (LEAF,)))
        assert check(net, above, content).accepted


@BOTH
def test_a_proof_is_accepted_in_both_arithmetics(proof, exact: bool) -> None:
    net, what, content = proof
    checked = check(net, what, content, exact=exact)
    assert checked.accepted, checked.why
    assert checked.leaves == decoded(content).leaves() > 4
    assert lowest_seen(net, what, 2000) > 0
    assert encoded(decoded(content)) == content


@pytest.mark.parametrize("seed", range(3))
def test_whatever_is_certified_is_true_and_most_of_what_is_true_is_certified(seed: int) -> None:
    module = dense(seed, 2, 4, 3, 3)
    net, image = network(module, 2), torch.rand(2)
    label = int(module(image[None]).argmax())
    for eps in (0.02, 0.15):
        low = (image.double() - eps).clamp(min=0).numpy()
        high = (image.double() + eps).clamp(max=1).numpy()
        eye = np.eye(3)
        bias = np.where(np.arange(3) == label, np.inf, 0.0)[:, None]
        what = question(low, high, (eye[label] - eye)[:, None], bias)
        exact = smallest_margin(module, image, label, eps)
        made = certified(net, what, 20.0 if exact > 1e-4 else 1.0)
        assert (made.content is not None) == (exact > 1e-4), (exact, made.why)


def bodies(content: bytes):
    """A certificate with one thing changed each, and what is said of it."""

    def changed(change) -> dict:
        body = json.loads(content)
        change(body)
        return body

    def leaves(node: dict):
        if "parts" in node:
            for part in node["parts"]:
                yield from leaves(part)
        else:
            yield node

    def splits(node: dict):
        if "parts" in node:
            yield node
            for part in node["parts"]:
                yield from splits(part)

    def with_slopes(body: dict) -> dict:
        return next(x for tree in body["trees"] for x in leaves(tree) if "slopes" in x)

    def split(body: dict) -> dict:
        return next(x for tree in body["trees"] for x in splits(tree))

    def deep(body: dict) -> dict:
        return next(
            x for tree in body["trees"] for x in leaves(tree) if len(x.get("multipliers", ())) > 1
        )

    claim = next(c for c in json.loads(content)["claims"] if c["lower"][0])
    at = json.loads(content)["claims"].index(claim)
    yield "is above 1", changed(lambda b: with_slopes(b)["slopes"][0][2].__setitem__(0, 65))
    yield "cannot be read", changed(lambda b: with_slopes(b)["slopes"][0][2].__setitem__(0, -1))
    yield (
        "does not follow",
        changed(lambda b: b["claims"][at]["lower"][1].__setitem__(0, claim["lower"][1][0] + 0.1)),
    )
    yield "is not above 0", changed(lambda b: b.__setitem__("claims", []))
    yield "is not above 0", changed(lambda b: split(b).__setitem__("split", ["relu", 1, 0, 0]))
    yield "enters no ReLU", changed(lambda b: split(b)["split"].__setitem__(1, 2))
    yield "cannot be read", changed(lambda b: split(b)["parts"].pop())
    yield "none of the network's", changed(lambda b: split(b)["split"].__setitem__(2, 999))
    yield "is not above 0", changed(lambda b: deep(b).pop("multipliers"))
    yield "below 0", changed(lambda b: deep(b)["multipliers"].__setitem__(0, -1.0))
    yield "multipliers for", changed(lambda b: deep(b)["multipliers"].pop())
    yield "does not have", changed(lambda b: with_slopes(b).__setitem__("row", 1))
    yield "trees for", changed(lambda b: b["trees"].pop())
    yield "another network", changed(lambda b: b.__setitem__("network", "0" * 64))
    yield "another question", changed(lambda b: b.__setitem__("question", "0" * 64))
    yield "not in the format", changed(lambda b: b.__setitem__("format", "proof"))
    yield "unknown 'why'", changed(lambda b: b.__setitem__("why", "because"))


def test_a_changed_certificate_is_refused_and_says_why(proof) -> None:
    net, what, content = proof
    reasons = []
    for why, body in bodies(content):
        plain = check(net, what, json.dumps(body).encode())
        assert not plain.accepted
        assert "changed since it was written" in plain.why or "not in the format" in plain.why
        # and where the change is sealed anew, what it says does not follow
        sealed = check(net, what, resealed(body))
        assert not sealed.accepted, why
        assert why in sealed.why, (why, sealed.why)
        reasons.append(sealed.why)
    assert len(set(reasons)) > 10


def test_another_weight_box_or_label_is_another_network_or_question(proof) -> None:
    net, what, content = proof
    last = net.layers[-1]
    weights = last.weights.copy()
    weights[3] = np.nextafter(weights[3], 9)
    other = net._replace(
        layers=(*net.layers[:-1], type(last)(last.starts, last.columns, weights, last.bias))
    )
    assert check(other, what, content).why == "of another network"
    wider = question(what.lower - 1e-9, what.upper, *rows_of(what))
    assert "another question" in check(net, wider, content).why
    swapped = asked((what.lower + what.upper) / 2, float((what.upper - what.lower)[0] / 2), 2, 3)
    assert "another question" in check(net, swapped, content).why


def rows_of(what: Question) -> tuple[np.ndarray, np.ndarray]:
    return np.stack([u.weight for u in what.unsafe]), np.stack([u.bias for u in what.unsafe])


@pytest.mark.parametrize(
    "content", [b"", b"{}", b"[1]", b"\xff", b'{"format":', b"NaN", b"[" * 9999]
)
def test_what_is_no_certificate_is_refused(proof, content: bytes) -> None:
    net, what, _ = proof
    assert not check(net, what, content).accepted


@BOTH
def test_no_change_makes_a_proof_of_what_is_false(proof, exact: bool) -> None:
    """Random changes, sealed anew, of a proof that is put to a box with a counterexample in it."""
    net, what, content = proof
    centre, eps = (what.lower + what.upper) / 2, float((what.upper - what.lower)[0] / 2)
    label = int(evaluate(net, centre)[-1].argmax())
    while lowest_seen(net, (false := asked(centre, eps, label, 3)), 400) > 0:
        eps *= 1.3
    rng = np.random.default_rng(0)
    refused = 0
    for _ in range(4 if exact else 100):
        body = json.loads(content) | {"question": false.digest()}
        for _ in range(int(rng.integers(0, 4))):
            _mutated(body, rng)
        checked = check(net, false, resealed(body), exact=exact)
        assert not checked.accepted
        refused += "of another" not in checked.why
    assert refused > (1 if exact else 20)


def _mutated(body: dict, rng: np.random.Generator) -> None:
    """One number somewhere in it."""
    places = []

    def walk(node, path=()):
        if isinstance(node, dict | list):
            items = node.items() if isinstance(node, dict) else enumerate(node)
            for key, value in items:
                if isinstance(value, int | float) and not isinstance(value, bool):
                    places.append((node, key))
                else:
                    walk(value)

    walk({"claims": body["claims"], "trees": body["trees"]})
    node, key = places[rng.integers(len(places))]
    value = node[key]
    node[key] = int(rng.integers(0, 65)) if isinstance(value, int) else float(value * rng.normal())


def test_a_claim_without_bounds_is_bounded_by_whoever_checks() -> None:
    net = network(dense(2, 4, 16, 16, 3), 4)
    centre = np.full(4, 0.8)
    label = int(evaluate(net, centre)[-1].argmax())
    widest = {}
    for claims in ((), (Claim(3),)):
        for eps in np.geomspace(0.01, 1.0, 60):
            what = asked(centre, float(eps), label, 3)
            leaves = tuple(LEAF for _ in what.unsafe)
            content = encoded(Certificate(net.digest(), what.digest(), claims, leaves))
            if not check(net, what, content, exact=False).accepted:
                break
            widest[claims] = what, float(eps)
    assert widest[Claim(3),][1] > widest[()][1]
    assert lowest_seen(net, widest[Claim(3),][0], 500) > 0


def test_inputs_are_split_into_parts_that_cover_the_box() -> None:
    net = network(dense(2, 4, 16, 16, 3), 4)
    centre = np.full(4, 0.8)
    what = asked(centre, 0.21, int(evaluate(net, centre)[-1].argmax()), 3)
    nodes = Boxes(Passes(net, Arithmetic(exact=False)), what).found(float("inf"))
    certificate = Certificate(net.digest(), what.digest(), (), nodes)
    assert certificate.leaves() > 2
    content = encoded(certificate)
    for exact in (True, False):
        assert check(net, what, content, exact=exact).accepted
    body = json.loads(content)
    split = next(tree for tree in body["trees"] if "parts" in tree)
    split["split"][2] = 99
    assert "none of the network's" in check(net, what, resealed(body)).why


@pytest.mark.parametrize(
    ("number", "exact"),
    [(np.nan, False), (np.nan, True), (np.inf, False), (np.inf, True), (1e300, False)],
)
def test_numbers_that_cannot_be_trusted_are_refused(number: float, exact: bool) -> None:
    net = network(dense(0, 2, 4, 3), 2)
    first = net.layers[0]
    assert isinstance(first, Affine)
    weights = first.weights.copy()
    weights[1] = number
    wrong = net._replace(layers=(replace(first, weights=weights), *net.layers[1:]))
    what = asked(np.full(2, 0.5), 0.1, 0, 3)
    leaves = tuple(LEAF for _ in what.unsafe)
    content = encoded(Certificate(wrong.digest(), what.digest(), (), leaves))
    assert not check(wrong, what, content, exact=exact).accepted
    box = question([number], [number], [[[1.0]]], [[1.0]])
    content = encoded(Certificate(net.digest(), box.digest(), (), (LEAF,)))
    assert "another size" in check(net, box, content, exact=exact).why
