"""Results on several data sets: sample 5 of each is another image."""

import json

import numpy as np
import polars as pl
import pytest

from robsweep.orchestrator.results.report import leaderboard_text, render
from robsweep.orchestrator.results.results import Results
from tests.demo_store import PLAN, DemoSweep

EPS, N = 0.1, 10
OTHER = "digits+fog:3"


class Demo(DemoSweep):
    """With plans that say who asks for an OOD set."""

    def write_plan(self):
        super().write_plan()
        path = self.store.root / "sweeps" / self.name / "plan.parquet"
        rows = [{"uses_json": None, **row} for row in self.asked]
        pl.DataFrame(rows, schema={**PLAN, "uses_json": pl.String}).write_parquet(path)

    def asked_by(self, key, *uses):
        self._asked(key)["uses_json"] = json.dumps(
            [
                {"section": "ood", "entry": entry, "dataset": dataset, "groups": groups,
                 "shifted": False}
                for entry, dataset, groups in uses
            ]
        )  # fmt: skip
        self.write_plan()


def clean(demo, dataset, wrong):
    """Predictions of which the first `wrong` are wrong."""
    params = {"source": "clean"}
    key = demo.ask("predict", "clean", "clean", dataset=dataset, params=params, wanted=[(0, N)])
    predicted = np.array([0] * wrong + [1] * (N - wrong))
    logits = np.eye(2, dtype=np.float32)[predicted]
    columns = {"source": "clean", "label": 1, "logits": logits, "predicted": predicted,
               "confidence": 0.9}  # fmt: skip
    demo.add(key, "predictions", range(N), columns, classes=2)


def attack(demo, dataset, broken, checks="ok", wrong=0):
    """One attack, which breaks the first `broken` samples; the first `wrong` need no attack."""
    key = demo.ask("attack", "attacks", f"pgd[dataset={dataset}]", dataset=dataset, norm="linf",
                   eps=[EPS], wanted=[(0, N)])  # fmt: skip
    success = [i < broken for i in range(N)]
    distance = [(0.0 if i < wrong else 0.05) if hit else None for i, hit in enumerate(success)]
    columns = {"attack": "pgd", "norm": "linf", "eps": EPS, "success": success, "check": checks,
               "distance": distance, "n_forward": 1, "seconds": 0.1}  # fmt: skip
    demo.add(key, "attacks", range(N), columns)


def screen(demo, dataset, verdict):
    params = {"property": "untargeted"}
    key = demo.ask("screen", "verification", f"v[dataset={dataset}]", dataset=dataset, norm="linf",
                   eps=[EPS], params=params, wanted=[(0, N)])  # fmt: skip
    columns = {**params, "norm": "linf", "eps": EPS, "verdict": verdict, "decided_by": "crown"}
    demo.add(key, "verification", range(N), columns)


@pytest.fixture
def demo(tmp_path):
    """All of `digits` is proved; of the same samples, corrupted, none is, and all are broken."""
    demo = Demo(tmp_path)
    clean(demo, "digits", 0)
    clean(demo, OTHER, 4)
    attack(demo, "digits", 0)
    attack(demo, OTHER, 10, wrong=4)
    screen(demo, "digits", "verified")
    screen(demo, OTHER, "falsified")
    return demo


def test_a_proof_on_one_data_set_and_an_adversarial_on_another_agree(demo):
    results = Results.open(demo.root)
    assert results.alarms("demo").is_empty()
    checks = results.table("demo", "honesty")
    assert "fail" not in checks["status"].to_list()


def test_the_leaderboard_has_a_row_per_data_set(demo):
    table = Results.open(demo.root).leaderboard("demo")
    own, other = table.to_dicts()
    assert (own["dataset"], other["dataset"]) == ("digits", OTHER)
    assert (own["clean_accuracy"], other["clean_accuracy"]) == (1.0, 0.6)
    assert (own["robust_accuracy"], other["robust_accuracy"]) == (1.0, 0.0)
    assert (own["robust_accuracy_clean"], other["robust_accuracy_clean"]) == (1.0, 0.6)
    assert (own["verified_accuracy"], other["verified_accuracy"]) == (1.0, 0.0)
    assert [own[f"bracket_{part}"] for part in ("low", "high", "n")] == [1.0, 1.0, N]
    assert [other[f"bracket_{part}"] for part in ("low", "high", "n")] == [0.0, 0.0, N]
    assert own["ece"] != other["ece"]
    text = leaderboard_text(table)
    assert text.count(OTHER) == 2
    assert "dataset" not in leaderboard_text(table.filter(table["dataset"] == "digits"))


@pytest.mark.parametrize("name", ["attacks", "verification", "calibration"])
def test_tables_have_rows_per_data_set(demo, name):
    table = Results.open(demo.root).table("demo", name)
    assert "dataset" in table.columns
    rows = {dataset: table.filter(table["dataset"] == dataset) for dataset in ("digits", OTHER)}
    assert len(rows["digits"]) == len(rows[OTHER]) == len(table) / 2
    assert OTHER in render(table, "text")
    if name == "attacks":
        for dataset, accuracy in (("digits", 1.0), (OTHER, 0.0)):
            worst = rows[dataset].filter(rows[dataset]["attack"] == "worst_case")
            assert worst["robust_accuracy"].to_list() == [accuracy]


def test_verdicts_are_not_carried_from_one_data_set_to_another(demo):
    """A proof at a larger eps answers for a smaller one, on the same images only."""
    params = {"property": "untargeted"}
    demo.ask("screen", "verification", "small", dataset=OTHER, norm="linf", eps=[0.01],
             params=params, wanted=[(0, N)])  # fmt: skip
    table = Results.open(demo.root).table("demo", "verification")
    (row,) = table.filter(table["eps"] == 0.01).to_dicts()
    assert (row["dataset"], row["verified"]) == (OTHER, None)


def test_failed_checks_name_the_data_set(demo):
    attack(demo, OTHER, 0, checks="left the ball")
    bad = Results.open(demo.root).failed_checks("demo")
    assert bad["dataset"].to_list() == [OTHER]


def test_an_ood_set_stands_beside_each_id_set(demo):
    def scored(dataset, ood_set, scores):
        params = {"scorer": "energy", "ood_set": ood_set, "seed": 0}
        key = demo.ask("score", "ood", "energy", dataset=dataset, params=params, wanted=[(0, 3)])
        columns = {"scorer": "energy", "ood_set": ood_set, "score": scores}
        demo.add(key, "ood_scores", range(3), columns)
        return key

    demo.asked_by(scored("digits", None, [0.0, 0.1, 0.2]), ("e[dataset=digits]", "digits", []))
    demo.asked_by(scored(OTHER, None, [0.0, 0.1, 9.0]), (f"e[dataset={OTHER}]", OTHER, []))
    far = scored("far", "far", [1.0, 2.0, 3.0])
    demo.asked_by(
        far, ("e[dataset=digits]", "digits", ["away"]), (f"e[dataset={OTHER}]", OTHER, [])
    )
    results = Results.open(demo.root)
    own, other = results.table("demo", "ood").to_dicts()
    assert (own["scorer"], own["dataset"], own["auroc"]) == ("e[dataset=digits]", "digits", 1.0)
    assert (other["scorer"], other["dataset"]) == (f"e[dataset={OTHER}]", OTHER)
    assert other["auroc"] == pytest.approx(2 / 3)
    groups = {m.dataset: [a.groups for a in m.of("score")] for m in results.models("demo")}
    assert groups == {"digits": [(), ("away",)], OTHER: [(), ()]}
    (scores,) = results.progress("demo").filter(kind="score").to_dicts()
    assert (scores["wanted"], scores["done"]) == (9, 9)
