"""Half-finished sweeps: what is shown is about samples that were not chosen by their outcome."""

import re
from pathlib import Path

import numpy as np
import polars as pl
import polars.selectors as cs
import pytest

from robsweep.orchestrator.results.report import render
from robsweep.orchestrator.results.results import Results
from tests.demo_store import DemoSweep

N, SLICE = 24, 6
EPS = (0.1, 0.2, 0.3)
PLAIN = {"property": "untargeted"}
TABLES = ("leaderboard", "attacks", "calibration", "ood", "shift", "verification")
# counts of samples that were right without an attack, or were broken: outcomes by definition
CONDITIONAL = ("attack_success_rate_n", "mean_min_distance_n")


class Partial:
    """A store of one model whose layout (what has run) and outcomes are drawn apart."""

    def __init__(self, root: Path, layout: int, outcome: int) -> None:
        self.layout, luck = np.random.default_rng(layout), np.random.default_rng(outcome)
        self.edge = np.where(luck.random(N) < 0.8, luck.random(N) * 0.4, 0.0)  # 0: misclassified
        self.screened: dict[float, set[int]] = {eps: set() for eps in EPS}
        self.verdicts: list[tuple[float, int, str]] = []
        self.attacked: dict[str, set[int]] = {}
        self.root = root
        other = DemoSweep(root, "other")
        for eps in (0.2, 0.3):  # balls that another sweep asks about decide smaller ones too
            self._screen(other, eps, self.slices(), None)
        demo = DemoSweep(root, "demo")
        for _ in range(9):  # other measurement ids than the other sweep's
            demo.ask("calibrate", "none", "none", ("x", None, None), writes_plan=False)
        clean = demo.ask("predict", "clean", "clean", params={"source": "clean"}, wanted=[(0, N)])
        self._predict(demo, clean, "clean", luck)
        for severity in (1, 3):
            source = f"corruption:blur:{severity}"
            key = demo.ask("predict", "shift", f"b[severity={severity}]",
                           params={"source": source}, wanted=[(0, N)])  # fmt: skip
            self._predict(demo, key, source, luck)
        for entry, radii in (("pgd", (0.1, 0.2)), ("late", (0.2,)), ("min", None)):
            self._attack(demo, entry, radii)
        for scorer in ("energy", "entropy"):
            for ood in (None, "near", "far"):
                params = {"scorer": scorer, "ood_set": ood}
                key = demo.ask("score", "ood", scorer, params=params, wanted=[(0, N)])
                for start, stop in self.slices():
                    columns = {"scorer": scorer, "ood_set": ood, "score": luck.random(stop - start)}
                    demo.add(key, "ood_scores", range(start, stop), columns)
        fit = demo.ask("calibrate", "calibration", "t", wanted=[(0, 1)], split="validation")
        if self.layout.random() < 0.5:
            demo.add(fit, "calibration", None, {"method": "temperature", "temperature": 2.0})
        for eps in EPS[:2]:
            self._screen(demo, eps, self.slices(), self.screened)

    def slices(self) -> list[tuple[int, int]]:
        return [(a, a + SLICE) for a in range(0, N, SLICE) if self.layout.random() < 0.6]

    def _predict(self, demo, key, source, luck) -> None:
        for start, stop in self.slices():
            n = stop - start
            logits = luck.normal(size=(n, 3)).astype(np.float32)
            columns = {"source": source, "label": 1, "logits": logits,
                       "predicted": logits.argmax(axis=1), "confidence": 0.5}  # fmt: skip
            demo.add(key, "predictions", range(start, stop), columns, classes=3)

    def _attack(self, demo, entry, radii) -> None:
        wanted = None if radii is None else list(radii)
        key = demo.ask("attack", "attacks", entry, norm="linf", eps=wanted, wanted=[(0, N)])
        covered = self.attacked.setdefault(entry, set())
        for start, stop in self.slices():
            covered.update(range(start, stop))
            samples = [s for s in range(start, stop) for _ in radii or (None,)]
            at = list(radii or (None,)) * (stop - start)
            reach = [1.1 * self.edge[s] for s in samples]
            success = [e is None or r <= e for r, e in zip(reach, at, strict=True)]
            found = zip(reach, success, strict=True)
            columns = {
                "attack": entry, "norm": "linf", "eps": at, "success": success, "check": "ok",
                "distance": [float(r) if ok else None for r, ok in found],
                "n_forward": 1, "seconds": 0.1,
            }  # fmt: skip
            demo.add(key, "attacks", samples, columns, covers=(start, stop))

    def _screen(self, demo, eps, slices, screened) -> None:
        screen = demo.ask("screen", "verification", f"v[eps={eps}]", norm="linf", eps=[eps],
                          params=PLAIN, wanted=[(0, N)])  # fmt: skip
        solve = demo.ask("solve", "verification", f"v[eps={eps}]", norm="linf", eps=[eps],
                         params=PLAIN, wanted=[(0, N)], needs=[screen])  # fmt: skip
        will_solve = self.layout.random(N) < 0.5
        for start, stop in slices:
            if screened is not None:
                screened[eps].update(range(start, stop))
            found = {s: self._verdict(s, eps, s % 2 == 0) for s in range(start, stop)}
            self._commit(demo, screen, eps, found)
            left_open = [s for s, verdict in found.items() if verdict == "unknown"]
            for s in left_open:
                if will_solve[s]:
                    self._commit(demo, solve, eps, {s: self._verdict(s, eps, False)})

    def _verdict(self, sample: int, eps: float, hard: bool) -> str:
        if self.edge[sample] == 0:
            return "misclassified"
        if hard:
            return "unknown"
        return "verified" if self.edge[sample] > eps else "falsified"

    def _commit(self, demo, key, eps, found) -> None:
        self.verdicts += [(eps, sample, verdict) for sample, verdict in found.items()]
        columns = {**PLAIN, "norm": "linf", "eps": eps, "verdict": [*found.values()],
                   "decided_by": "it"}  # fmt: skip
        demo.add(key, "verification", [*found], columns)


# Each is a second or two: two stores of forty commits, and every table of both.
@pytest.mark.parametrize(
    "layout", [0, *(pytest.param(n, marks=pytest.mark.slow) for n in (1, 2, 3))]
)
def test_counts_and_what_is_shown_depend_on_what_has_run_alone(tmp_path, layout):
    shown = []
    for outcome in (0, 1):
        results = Results.open(Partial(tmp_path / str(outcome), layout, outcome).root)
        tables = {name: results.table("demo", name) for name in TABLES}
        # the leaderboard's AUROC is that of the hardest set, whichever that is
        tables["leaderboard"] = tables["leaderboard"].drop(cs.matches("^auroc_.*n"))
        shown.append({name: _extent(table) for name, table in tables.items()})
    for name in TABLES:
        assert shown[0][name] == shown[1][name]


def _extent(table: pl.DataFrame) -> list[dict[str, object]]:
    """Counts, states, and which numbers there are, of every row."""
    counts = [c for c in table.columns if re.search(r"_(n|wanted|n_id|n_ood)$", c)]
    states = [c for c in table.columns if c.endswith("_status")]
    # whether proofs are still being sought is known when the screen has run, and not before
    states = [c for c in states if not c.startswith(("verified", "bracket"))]
    numbers = [
        c
        for c, kind in table.schema.items()
        if kind == pl.Float64 and not c.startswith(("attack_success", "mean_min", "eps"))
    ]
    return table.select(
        *(c for c in [*counts, *states] if c not in CONDITIONAL), pl.col(numbers).is_null()
    ).to_dicts()


@pytest.mark.parametrize(
    "layout", [4, *(pytest.param(n, marks=pytest.mark.slow) for n in (5, 6, 7))]
)
def test_numbers_are_those_of_whole_ranges(tmp_path, layout):
    """By brute force over all that is known of the samples that the question's own jobs covered."""
    made = Partial(tmp_path / "s", layout, layout)
    board = {row["eps"]: row for row in Results.open(made.root).leaderboard("demo").to_dicts()}
    for eps in EPS[:2]:
        samples = made.screened[eps]
        proved = {s for at, s, verdict in made.verdicts if verdict == "verified" and at >= eps}
        fallen = {s for at, s, verdict in made.verdicts if verdict == "falsified" and at <= eps}
        row = board[eps]
        assert row["verified_accuracy_n"] == len(samples)
        assert row["verified_accuracy"] == _share(len(samples & proved), len(samples))
        speaking = [e for e in made.attacked if e != "late" or eps == 0.2]
        both = set.intersection(*(made.attacked[entry] for entry in speaking))
        assert row["robust_accuracy_n"] == len(both)
        broken = {s for s in both if 1.1 * made.edge[s] <= eps}
        assert row["robust_accuracy"] == _share(len(both - broken), len(both))
        assert row["bracket_n"] == len(both & samples)
        assert row["bracket_low"] == _share(len(both & samples & proved), len(both & samples))
        survive = both & samples - broken - fallen
        assert row["bracket_high"] == _share(len(survive), len(both & samples))
        right = {s for s in both & samples if made.edge[s] > 0}
        assert row["bracket_clean"] == _share(len(right), len(both & samples))


def _share(count: int, n: int):
    return pytest.approx(count / n) if n else None


def test_a_proof_at_a_larger_eps_is_no_number_before_the_screen_has_run(tmp_path):
    demo = DemoSweep(tmp_path)
    small = demo.ask("screen", "verification", "s", norm="linf", eps=[0.1], params=PLAIN,
                     wanted=[(0, 20)])  # fmt: skip
    large = demo.ask("screen", "verification", "l", norm="linf", eps=[0.2], params=PLAIN,
                     wanted=[(0, 20)])  # fmt: skip
    columns = {**PLAIN, "norm": "linf", "eps": 0.2, "decided_by": "it"}
    verdicts = ["verified"] * 3 + ["unknown"] * 7
    demo.add(large, "verification", range(10), {**columns, "verdict": verdicts})
    rows = Results.open(tmp_path).leaderboard("demo").to_dicts()
    assert rows[0]["verified_accuracy"] is rows[0]["bracket_low"] is None
    assert rows[0]["verified_accuracy_status"] == rows[0]["bracket_status"] == "not run"
    assert rows[1]["verified_accuracy"] == pytest.approx(0.3)
    columns |= {"eps": 0.1, "verdict": ["unknown"] * 5}
    demo.add(small, "verification", range(5), columns)
    first, second = Results.open(tmp_path).leaderboard("demo").to_dicts()
    assert (first["verified_accuracy"], first["verified_accuracy_n"]) == (pytest.approx(0.6), 5)
    assert first["verified_accuracy_status"] == second["verified_accuracy_status"] == "running"


def test_a_sample_that_waits_for_its_solve_is_undecided_and_counted(tmp_path):
    demo = DemoSweep(tmp_path)
    ask = {"norm": "linf", "eps": [0.1], "params": PLAIN, "wanted": [(0, 4)]}
    screen = demo.ask("screen", "verification", "v", **ask)
    solve = demo.ask("solve", "verification", "v", needs=[screen], **ask)
    columns = {**PLAIN, "norm": "linf", "eps": 0.1, "decided_by": "it"}
    verdicts = ["verified", "unknown", "unknown", "falsified"]
    demo.add(screen, "verification", range(4), {**columns, "verdict": verdicts})

    def row():
        return Results.open(tmp_path).table("demo", "verification").row(0, named=True)

    found = row()
    assert (found["verified_accuracy"], found["verified_accuracy_n"]) == (0.25, 4)
    assert (found["unsolved"], found["verified_accuracy_status"]) == (2, "running")
    demo.add(solve, "verification", [1], {**columns, "verdict": "timeout"})
    assert (row()["unsolved"], row()["bracket_status"]) == (1, "running")
    demo.fail(solve, 2, 3)
    assert (row()["unsolved"], row()["bracket_status"]) == (1, "failed")
    demo.add(solve, "verification", [2], {**columns, "verdict": "verified"})
    found = row()
    assert (found["unsolved"], found["verified_accuracy_status"]) == (None, "done")
    assert (found["verified_accuracy"], found["verified_accuracy_n"]) == (0.5, 4)


def test_not_asked_not_run_running_and_failed_are_told_apart(tmp_path):
    demo = DemoSweep(tmp_path)
    for name in ("done", "half", "none", "bad"):
        model = (name, None, None)
        clean = demo.ask("predict", "clean", "clean", model, params={"source": "clean"})
        attack = demo.ask("attack", "attacks", "pgd", model, norm="linf", eps=[0.1])
        columns = {"source": "clean", "label": 0, "predicted": 0, "confidence": 0.9}
        columns["logits"] = np.ones((10, 2), np.float32)
        demo.add(clean, "predictions", range(10), columns, classes=2)
        n = {"done": 10, "half": 4}.get(name, 0)
        columns = {"attack": "pgd", "norm": "linf", "eps": 0.1, "success": False, "check": "ok"}
        if n:
            demo.add(attack, "attacks", range(n), columns)
        if name == "bad":
            demo.fail(attack, 0, 10)
    board = Results.open(tmp_path).leaderboard("demo")
    assert board["robust_accuracy_status"].to_list() == ["done", "running", "not run", "failed"]
    assert board["verified_accuracy_status"].unique().to_list() == ["not asked"]
    assert board["robust_accuracy_wanted"].to_list() == [10] * 4
    for style in ("text", "markdown", "latex"):
        lines = [line for line in render(board, style).splitlines() if "linf" in line]
        assert "n=10" in lines[0]
        assert "n=4/10" in lines[1]
        assert "not run" in lines[2]
        assert "failed (pgd: raised)" in lines[3]
        assert "verified_accuracy" not in render(board, style).replace("\\", "")
    assert "not asked" in render(board, "csv")
