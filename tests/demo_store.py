"""Writes small stores for tests of the read side, and one with made-up results of a whole sweep."""

import json
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
from scipy.special import log_softmax

from robsweep.orchestrator.store.store import Store
from robsweep.orchestrator.store.writer import Finished, Writer
from robsweep.tasks.rows import Keys, table

RANGES = pl.List(pl.Struct({"start": pl.Int64, "stop": pl.Int64}))
PLAN = {
    **dict.fromkeys(
        ["measurement_id", "kind", "section", "entry", "name", "model", "training"], pl.String
    ),
    "seed": pl.Int64,
    **dict.fromkeys(["model_id", "dataset", "split", "norm"], pl.String),
    "eps": pl.List(pl.Float64),
    "params_json": pl.String,
    "wanted": RANGES,
    "needs": pl.List(pl.String),
}


@dataclass
class DemoSweep:
    """A sweep whose results are given, not computed."""

    root: Path
    name: str = "demo"
    asked: list[dict[str, Any]] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.store = Store.create(self.root)
        self.writer = Writer(self.store, self.name)

    def ask(
        self,
        kind: str,
        section: str,
        entry: str,
        model: tuple[str, str | None, int | None] = ("cnn", "standard", 0),
        *,
        dataset: str = "digits",
        split: str = "test",
        norm: str | None = None,
        eps: list[float] | None = None,
        params: dict[str, Any] | None = None,
        wanted: list[tuple[int, int]] | None = None,
        needs: list[str] | None = None,
        writes_plan: bool = True,
    ) -> str:
        """Plans a measurement and returns its id."""
        key = f"{kind}-{len(self.asked):04d}"
        self.asked.append(
            {
                "measurement_id": key,
                "kind": kind,
                "section": section,
                "entry": entry,
                "name": entry,
                "model": model[0],
                "training": model[1],
                "seed": model[2],
                "model_id": "-".join(str(part) for part in model),
                "dataset": dataset,
                "split": split,
                "norm": norm,
                "eps": eps,
                "params_json": json.dumps(params or {}),
                "wanted": [{"start": a, "stop": b} for a, b in wanted or [(0, 10)]],
                "needs": needs or [],
            }
        )
        if writes_plan:
            self.write_plan()
        return key

    def write_plan(self) -> None:
        path = self.store.root / "sweeps" / self.name / "plan.parquet"
        path.parent.mkdir(parents=True, exist_ok=True)
        pl.DataFrame(self.asked, schema=PLAN).write_parquet(path)

    def add(
        self,
        key: str,
        name: str,
        samples: Any,
        columns: dict[str, Any],
        covers: tuple[int, int] | None = None,
        **more: Any,
    ) -> None:
        """Commits rows of a measurement; `covers` defaults to the span of the samples."""
        asked = self._asked(key)
        keys = Keys(
            key, asked["model_id"], "0" * 64, asked["dataset"], asked["split"], asked["seed"]
        )
        rows = table(name, keys, samples, columns, n=None if samples is not None else 1, **more)
        start, stop = covers or (
            (0, 1) if samples is None else (int(min(samples)), int(max(samples)) + 1)
        )
        self._commit(key, start, stop, "done", {name: rows})

    def fail(self, key: str, start: int, stop: int) -> None:
        self._commit(key, start, stop, "failed", {})

    def _commit(self, key: str, start: int, stop: int, status: str, tables: dict[str, Any]) -> None:
        row = {
            "measurement_id": key,
            "sweep": self.name,
            "kind": self._asked(key)["kind"],
            "start": start,
            "stop": stop,
            "status": status,
            "attempt": 1,
            "started_at": datetime.now(UTC),
        }
        self.writer.commit([Finished(key, start, stop, self.writer.snapshot.seq, row, tables)])

    def _asked(self, key: str) -> dict[str, Any]:
        return next(row for row in self.asked if row["measurement_id"] == key)


MODELS = (
    ("cnn", "standard", 0, 0.985, 0.9),
    ("cnn", "standard", 1, 0.986, 0.95),
    ("cnn", "noise", 0, 0.984, 1.6),
    ("cnn", "pgd", 0, 0.962, 4.0),
    ("cnn", "pgd", 1, 0.958, 3.8),
    ("wk17a", None, None, 0.982, 5.2),
)
LINF, L2 = [0.05, 0.1, 0.2], [0.5, 1.0]


def whole_sweep(root: Path, *, done: float = 1.0, unsound: bool = False) -> DemoSweep:
    """Six models with every kind of result; `done` is the share of each measurement that ran."""
    demo = DemoSweep(root, "mnist-bracket")
    n = 400
    for name, training, seed, accuracy, radius in MODELS:
        _model(demo, (name, training, seed), accuracy, radius, n, int(n * done), unsound)
    demo.write_plan()
    return demo


def _model(
    demo: DemoSweep,
    model: tuple[str, str | None, int | None],
    accuracy: float,
    radius: float,
    n: int,
    ran: int,
    unsound: bool,
) -> None:
    rng = np.random.default_rng(abs(hash(accuracy)) % 1000 + int(radius * 10))
    labels = rng.integers(0, 10, n)
    intended = np.where(rng.random(n) < accuracy, labels, (labels + 1) % 10)
    logits = rng.normal(size=(n, 10))
    logits[np.arange(n), intended] += 3 + rng.gamma(2, 1.2, n)
    right = logits.argmax(axis=1) == labels
    # the true distance to the boundary, which attacks overestimate and bounds underestimate
    edge = np.where(right, 0.05 * radius * rng.gamma(4, 0.25, n), 0.0)

    def ask(kind: str, section: str, entry: str, **more: Any) -> str:
        return demo.ask(kind, section, entry, model, writes_plan=False, **more)

    if model[1] is not None:
        train = ask("train", "models", model[0], wanted=[(0, 1)], split="train")
        if ran:
            demo.add(train, "models", None, {"model": model[0], "training": model[1]})
    whole, part = [(0, n)], range(ran)
    clean = ask("predict", "clean", "clean", params={"source": "clean"}, wanted=whole)
    attack = {
        "pgd": ("linf", LINF, 1.02),
        "fgsm": ("linf", LINF, 1.3),
        "l2_pgd": ("l2", L2, 10.0),
        "deepfool": ("l2", None, 11.0),
    }
    attacks = {
        entry: ask("attack", "attacks", entry, norm=norm, eps=eps, wanted=whole)
        for entry, (norm, eps, _) in attack.items()
    }
    scores = {
        (scorer, ood): ask(
            "score", "ood", scorer, wanted=whole, dataset=ood or "digits",
            params={"scorer": scorer, "ood_set": ood},
        )
        for scorer in ("max_softmax", "energy")
        for ood in (None, "notmnist", "fashion_mnist")
    }  # fmt: skip
    shifted = {
        (name, severity): ask(
            "predict", "shift", name, wanted=whole,
            params={"source": f"corruption:{name}:{severity}"},
        )
        for name in ("gaussian_noise", "contrast")
        for severity in (1, 3, 5)
    }  # fmt: skip
    fit = ask("calibrate", "calibration", "temperature", wanted=[(0, 1)], split="validation")
    property_ = {"property": "untargeted"}
    screens = {
        eps: ask(
            "screen", "verification", f"milp[eps={eps}]", norm="linf", eps=[eps],
            params=property_, wanted=[(0, 100)],
        )
        for eps in LINF[:2]
    }  # fmt: skip
    solves = {
        eps: ask(
            "solve", "verification", f"milp[eps={eps}]", norm="linf", eps=[eps],
            params=property_, wanted=[(0, 100)], needs=[screen],
        )
        for eps, screen in screens.items()
    }  # fmt: skip
    if not ran:
        return

    def predictions(key: str, source: str, logits: np.ndarray) -> None:
        columns = {
            "source": source,
            "label": labels[:ran],
            "logits": logits[:ran].astype(np.float32),
            "predicted": logits[:ran].argmax(axis=1),
            "confidence": np.exp(log_softmax(logits[:ran], axis=1)).max(axis=1),
        }
        demo.add(key, "predictions", part, columns, classes=10)

    predictions(clean, "clean", 2 * logits)
    for (name, severity), key in shifted.items():
        noisy = logits + severity * 0.6 * rng.normal(size=logits.shape)
        predictions(key, f"corruption:{name}:{severity}", noisy)
    for entry, key in attacks.items():
        norm, eps_list, factor = attack[entry]
        reach = np.where(right, edge * factor * (1 + 0.1 * rng.random(n)), 0.0)[:ran]
        for_eps = eps_list or [None]
        success = np.stack([reach <= (np.inf if e is None else e) for e in for_eps], axis=1)
        distance = np.where(success, reach[:, None], np.nan)
        columns = {
            "attack": entry,
            "norm": norm,
            "eps": for_eps * ran,
            "success": success.ravel(),
            "distance": [None if np.isnan(d) else float(d) for d in distance.ravel()],
            "n_forward": 40,
            "seconds": 0.01,
            "check": "ok",
        }
        demo.add(key, "attacks", list(np.repeat(part, len(for_eps))), columns)
    for (scorer, ood), key in scores.items():
        shift = {None: 0.0, "notmnist": 1.6, "fashion_mnist": 2.4}[ood] + 0.1 * radius
        score = rng.normal(shift if ood else 0, 1, ran)
        demo.add(key, "ood_scores", part, {"scorer": scorer, "ood_set": ood, "score": score})
    demo.add(fit, "calibration", None, {"method": "temperature", "temperature": 2.0})
    for eps, key in screens.items():
        few = range(min(ran, 100))
        hard = rng.random(n) < 0.5
        verdict = [_verdict(right[i], edge[i], eps, bool(hard[i])) for i in few]
        common = {"property": "untargeted", "norm": "linf", "eps": eps}
        demo.add(key, "verification", few, {**common, "verdict": verdict, "decided_by": "crown"})
        solved = [i for i in few if verdict[i] == "unknown" and i % 7]
        proofs = ["verified" if edge[i] > eps else "falsified" for i in solved]
        answers = {
            **common,
            "verdict": [p if i % 5 else "timeout" for i, p in zip(solved, proofs, strict=True)],
            "decided_by": "scip",
            "seconds": 2.0,
        }
        if solved:
            demo.add(solves[eps], "verification", solved, answers)
        if unsound and model[0] == "wk17a" and "falsified" in verdict:
            columns = {**common, "verdict": "verified", "decided_by": "scip"}
            demo.add(solves[eps], "verification", [verdict.index("falsified")], columns)


def _verdict(right: bool, edge: float, eps: float, hard: bool) -> str:
    if not right:
        return "misclassified"
    if eps / 1.4 < edge < eps * 1.4 and hard:
        return "unknown"
    return "verified" if edge > eps else "falsified"


class DemoSweepOfUses(DemoSweep):
    """With plans that say what an OOD set is asked for."""

    def write_plan(self):
        super().write_plan()
        path = self.store.root / "sweeps" / self.name / "plan.parquet"
        rows = [{"uses_json": None, **row} for row in self.asked]
        pl.DataFrame(rows, schema={**PLAN, "uses_json": pl.String}).write_parquet(path)
