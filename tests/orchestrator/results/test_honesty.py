import numpy as np
import polars as pl
import pytest
from scipy.stats import binomtest

from robsweep.orchestrator.results.metrics.honesty_checks import (
    CHECKS,
    LEVEL,
    Evidence,
    beyond,
)
from robsweep.orchestrator.results.metrics.honesty_compared import harder
from robsweep.orchestrator.results.metrics.planned import Asked
from robsweep.orchestrator.results.results import Results
from robsweep.orchestrator.results.tables.honesty import HUGE, huge
from robsweep.tasks.catalogue import ATTACKS
from tests.demo_store import DemoSweep

EPS = 0.1
SCHEMA = {
    "measurement_id": pl.String, "sample": pl.Int64, "eps": pl.Float64, "success": pl.Boolean,
    "distance": pl.Float64, "check": pl.String, "inferred_from_eps": pl.Float64,
    "broken_again": pl.Boolean, "n_backward": pl.Int64, "bad_gradients": pl.Int64,
}  # fmt: skip
MARGINS = {
    "measurement_id": pl.String, "eps": pl.Float64, "sample": pl.Int64,
    "before": pl.Float64, "after": pl.Float64,
}  # fmt: skip
SINGLE, ITERATIVE, NOISE = "LinfFastGradient", "LinfPGD", "LinfAdditiveUniformNoise"
BLACK = "LinfHopSkipJump"  # min-norm


def asked(name, entry=None, eps=(EPS,), params=None, **parameters):
    """A planned attack, whose measurement id is its entry."""
    entry = entry or name
    return Asked(
        measurement_id=entry, kind="attack", section="attacks", entry=entry, name=name,
        model_id="m", dataset="digits", split="test", norm="linf", eps=tuple(eps),
        params={"attack": name, "parameters": parameters, **(params or {})},
        wanted=((0, 1000),), needs=(),
    )  # fmt: skip


def rows(entry, broken, n=10, eps=EPS, **columns):
    """One attack at one eps: which of n samples it breaks."""
    return [
        {
            "measurement_id": entry, "sample": i, "eps": eps, "success": i in broken,
            "distance": 0.09 if i in broken else None, "check": "ok", **columns,
        }
        for i in range(n)
    ]  # fmt: skip


def found(check, attacks, given=(), margins=(), proved=(), contradicted=()):
    frame = pl.DataFrame(list(given), schema=SCHEMA)
    answers = pl.DataFrame(list(margins), schema=MARGINS, orient="row")
    return CHECKS[check](Evidence("linf", 0.5, attacks, frame, answers, proved, contradicted))


def status(*arguments, **more):
    return found(*arguments, **more).status


ORDERED = [
    ("iterative beats single step", asked(SINGLE), asked(ITERATIVE)),
    ("white box beats noise", asked(NOISE), asked(ITERATIVE)),
    ("white box beats black box", asked(BLACK, eps=()), asked(ITERATIVE)),
    ("black box beats noise", asked(NOISE), asked(BLACK, eps=())),
    ("transfer never beats white box", asked(SINGLE, params={"source": "n"}), asked(ITERATIVE)),
]


@pytest.mark.parametrize(("check", "weak", "strong"), ORDERED, ids=[case[0] for case in ORDERED])
def test_the_stronger_attacks_break_what_the_weaker_ones_do(check, weak, strong):
    def of(weaker, stronger):
        sides = [(weak, weaker), (strong, stronger)]
        given = [
            row
            for side, broken in sides
            for row in rows(side.entry, broken, eps=side.eps[0] if side.eps else None)
        ]
        return found(check, [weak, strong], given)

    assert of({1, 2}, {1, 2, 3})[:3] == ("pass", 10, [])
    assert of({1, 2}, {1, 3, 4})[:3] == ("warn", 10, [2])
    assert of({1, 2, 5}, {1})[:3] == ("fail", 10, [2, 5])
    for alone in (weak, strong):
        nothing = found(check, [alone], rows(alone.entry, {1}))
        assert nothing[:3] == ("not run", 0, [])
        assert nothing.detail.startswith("needs a")


def test_only_samples_that_all_have_covered_are_compared():
    attacks = [asked(NOISE), asked(ITERATIVE), asked(SINGLE)]
    given = rows(NOISE, {1, 8}) + rows(ITERATIVE, {1}, n=5) + rows(SINGLE, set(), n=6)
    assert found("white box beats noise", attacks, given)[:3] == ("pass", 5, [])
    # an attack of the plan that has not run yet might have found the rest
    assert status("white box beats noise", [*attacks, asked("own:attack")], given) == "not run"


def test_access_is_compared_with_more_than_one_percent_of_slack():
    attacks = [asked(NOISE), asked(ITERATIVE)]
    # where one in a hundred is allowed, 7 of 200 come by chance once in two hundred times
    for weaker, verdict in ((1, "warn"), (6, "warn"), (7, "fail")):
        given = rows(NOISE, set(range(weaker)), n=200) + rows(ITERATIVE, set(), n=200)
        assert status("white box beats noise", attacks, given) == verdict


@pytest.mark.parametrize("share", [0.01, 0.05])
@pytest.mark.parametrize("n", [10, 50, 500, 10_000])
def test_a_check_fails_by_chance_once_in_a_hundred_times_at_most(share, n):
    counts = np.random.default_rng(n).binomial(n, share, 20_000)
    assert np.mean([beyond(share, int(count), n) for count in counts]) < 0.012
    assert not beyond(share, 1, 1)  # a single sample says nothing
    assert beyond(share, n // 2, n)
    fewest = next(count for count in range(n + 1) if beyond(share, count, n))
    assert binomtest(fewest, n, share, alternative="greater").pvalue <= LEVEL
    if fewest > 2:
        assert binomtest(fewest - 1, n, share, alternative="greater").pvalue > LEVEL


def test_what_breaks_at_a_smaller_eps_is_broken_and_eps_must_agree():
    strong, weak = asked(ITERATIVE, eps=(0.05, EPS)), asked(NOISE)
    given = rows(ITERATIVE, {1}, eps=0.05) + rows(ITERATIVE, set()) + rows(NOISE, {1})
    assert status("white box beats noise", [weak, strong], given) == "pass"
    other = [asked(NOISE), asked(ITERATIVE, eps=(0.2,))]
    given = rows(NOISE, {1}) + rows(ITERATIVE, set(), eps=0.2)
    assert status("white box beats noise", other, given) == "not run"


def test_min_norm_attacks_are_compared_at_the_median_of_what_they_found():
    attacks = [asked("SaltAndPepperNoise", eps=()), asked("L2DeepFool", eps=())]
    check = "white box beats black box"

    def given(salt, deepfool):
        both = ((attacks[0].entry, salt), (attacks[1].entry, deepfool))
        return [
            {**row, "distance": distance}
            for entry, distance in both
            for row in rows(entry, set(range(10)), eps=None)
        ]

    assert found(check, attacks, given(2.0, 1.0)).detail.endswith("at eps 1.5")
    assert status(check, attacks, given(2.0, 1.0)) == "pass"
    assert found(check, attacks, given(1.0, 2.0))[:3] == ("fail", 10, list(range(10)))


def test_attacks_after_more_than_a_wrong_answer_are_compared_with_none():
    assert harder(asked(ITERATIVE, params={"detector": "d"}))
    assert harder(asked(ITERATIVE, params={"target": "least_likely"}))
    assert not harder(asked(ITERATIVE))


def test_estimated_gradients_are_black_box():
    queries = asked(ITERATIVE, "queries", params={"gradients": "nes"})
    given = rows(ITERATIVE, set()) + rows("queries", {1, 2, 3})
    attacks = [asked(ITERATIVE), queries]
    assert status("white box beats black box", attacks, given) == "fail"
    assert status("iterative beats single step", attacks, given) == "not run"


def test_a_function_of_the_user_is_iterative_and_white_box():
    own = asked("mine:attack")
    given = rows(SINGLE, {1, 2}) + rows("mine:attack", set())
    assert status("iterative beats single step", [asked(SINGLE), own], given) == "fail"


def test_larger_eps_never_helps():
    def of(survived, n):
        again = [
            {**row, "inferred_from_eps": 0.05, "broken_again": row["sample"] >= survived}
            for row in rows(ITERATIVE, set(range(n)), n)
        ]
        # a row that was not attacked again says nothing
        return found("larger eps never helps", [asked(ITERATIVE)], [*again, *rows(NOISE, {1}, 500)])

    assert of(0, 20)[:3] == ("pass", 20, [])
    assert of(1, 20)[:3] == ("warn", 20, [0])
    assert of(5, 20)[:3] == ("fail", 20, [0, 1, 2, 3, 4])
    assert of(5, 20).attacks == (ITERATIVE,)
    assert of(5, 20).detail.startswith(f"{ITERATIVE}: ")
    nothing = found("larger eps never helps", [asked(ITERATIVE)], rows(ITERATIVE, {1}))
    assert nothing.status == "not run"
    assert "several eps" in nothing.detail


def test_huge_eps_breaks_all():
    check, huge_one = "huge eps breaks all", asked(ITERATIVE, eps=(EPS, 0.5))
    for survivors, verdict in ((0, "pass"), (6, "warn"), (7, "fail")):
        given = rows(ITERATIVE, set(range(survivors, 40)), n=40, eps=0.5)
        result = found(check, [huge_one], given)
        assert result[:3] == (verdict, 40, list(range(survivors)))
    assert "0.5 or more" in found(check, [asked(ITERATIVE)], rows(ITERATIVE, {1})).detail
    # noise at a huge eps is no white-box attack
    noisy = [asked(NOISE, eps=(0.5,)), asked(ITERATIVE)]
    assert status(check, noisy, rows(NOISE, set(), eps=0.5)) == "not run"
    assert status(check, [huge_one], []) == "not run"


def test_huge_is_a_share_of_the_largest_distance():
    assert huge("linf", "mnist") == huge("linf", "cifar10") == 0.5
    assert huge("l2", "mnist") == huge("l2", "npz:mine.npz") == pytest.approx(5)
    assert huge("l1", "mnist") == pytest.approx(100)
    assert huge("l2", "digits") == pytest.approx(HUGE["l2"] * 8)
    assert huge("l0", "cifar10") == 512  # pixels, not values
    assert huge("l0", "iris") == 2


def test_gradients_are_of_use():
    def of(useless, n=20, broken=(), name=ITERATIVE, **columns):
        given = [
            {**row, "n_backward": 10, "bad_gradients": 6 if row["sample"] < useless else 5}
            | columns
            for row in rows(name, set(broken), n)
        ]
        return found("gradients are of use", [asked(name)], given)

    assert of(0)[:3] == ("pass", 20, [])
    assert of(1)[:3] == ("warn", 20, [0])
    assert of(5)[:3] == ("fail", 20, [0, 1, 2, 3, 4])
    assert of(2, broken={0, 1}).status == "pass"
    assert of(20, inferred_from_eps=0.05).status == "not run"
    assert of(20, n_backward=0, bad_gradients=0).status == "not run"
    assert of(20, bad_gradients=None).status == "not run"  # a store of before
    assert of(20, name=NOISE).status == "not run"


def test_loss_increases():
    def of(same, n=20, eps=EPS, after=2.0):
        margins = [(ITERATIVE, eps, i, 2.0, after if i < same else 1.0) for i in range(n)]
        return found("loss increases", [asked(ITERATIVE)], [], margins)

    assert of(0)[:3] == ("pass", 20, [])
    assert of(1)[:3] == ("warn", 20, [0])
    assert of(5)[:3] == ("fail", 20, [0, 1, 2, 3, 4])
    assert of(5, after=2.0 - 1e-6).status == "fail"  # rounding is no progress
    assert of(5, after=3.0).status == "fail"
    assert of(0, n=0).status == "not run"
    # where it finds nothing, a min-norm attack gives back the image: that is its answer
    assert of(2, eps=None)[:3] == ("pass", 18, [])
    assert of(5, eps=None, after=3.0).status == "fail"


def test_square_finds_nothing_new(monkeypatch):
    # an entry with such a name, whether or not the catalogue has it
    monkeypatch.setitem(ATTACKS, "square", ATTACKS[BLACK])
    attacks = [asked("square"), asked(ITERATIVE), asked(NOISE)]

    def of(new):
        given = rows("square", new, n=100) + rows(ITERATIVE, {50}, n=100) + rows(NOISE, set(), 100)
        return found("Square finds nothing new", attacks, given)

    assert of({50})[:3] == ("pass", 100, [])
    assert of({1})[:3] == ("warn", 100, [1])
    assert of({1, 2, 3, 4, 5})[:3] == ("fail", 100, [1, 2, 3, 4, 5])
    assert of({1, 2, 3, 4, 5}).attacks == (ITERATIVE,)
    assert status("Square finds nothing new", attacks[1:]) == "not run"


@pytest.mark.parametrize("budget", ["steps", "queries"])
def test_doubling_the_steps_changes_nothing(budget):
    check = "doubling the steps changes nothing"

    def pair(more, **other):
        longer = asked(ITERATIVE, "long", (EPS, 0.2), **{budget: more, "size": 1, **other})
        return [asked(ITERATIVE, "short", **{budget: 10, "size": 1}), longer]

    def of(short, long, attacks):
        return found(check, attacks, rows("short", short, n=100) + rows("long", long, n=100))

    assert of({1, 2}, {1}, pair(20))[:3] == ("pass", 100, [])
    assert of({1}, {1, 2}, pair(20))[:3] == ("warn", 100, [2])
    assert of({1}, set(range(1, 7)), pair(40))[:3] == ("fail", 100, [2, 3, 4, 5, 6])
    assert of({1}, set(range(1, 7)), pair(40)).attacks == ("short",)
    assert of({1}, {1, 2}, pair(19)).status == "not run"  # not twice as many
    # what the shortest misses is found by the next, which is as good as the longest
    longest = asked(ITERATIVE, "longest", **{budget: 40, "size": 1})
    given = [rows("short", {1}, n=100), rows("long", set(range(9)), n=100)]
    given.append(rows("longest", set(range(9)), n=100))
    attacks = [*pair(20), longest]
    assert status(check, attacks, [row for part in given for row in part]) == "pass"
    assert of({1}, {1, 2}, pair(20, size=2)).status == "not run"  # another attack


def test_soundness():
    assert status("soundness", []) == "not run"
    assert found("soundness", [], proved=[1, 2])[:3] == ("pass", 2, [])
    assert found("soundness", [], proved=[1, 2], contradicted=[2])[:3] == ("fail", 2, [2])


def demo_sweep(root):
    """Six samples: 0 is misclassified, 1 and 2 break, 3 and 4 stand, 5 has no sound row."""
    demo = DemoSweep(root)
    clean = demo.ask("predict", "clean", "clean", params={"source": "clean"}, wanted=[(0, 6)])
    pgd = demo.ask("attack", "attacks", "pgd", norm="linf", eps=[EPS], wanted=[(0, 6)])
    screen = demo.ask(
        "screen", "verification", "milp", norm="linf", eps=[EPS], wanted=[(0, 6)],
        params={"property": "untargeted"},
    )  # fmt: skip
    margins = {"clean": [-1, 3, 3, 3, 3, 3], f"attack:{pgd}:{EPS!r}": [-1, -1, -2, 2, 3, 3]}
    for key, (source, values) in zip((clean, pgd), margins.items(), strict=True):
        logits = np.array([[-9, margin, 0] for margin in values], np.float32)
        columns = {"source": source, "label": 1, "logits": logits, "predicted": 1}
        demo.add(key, "predictions", range(6), columns, classes=3)
    columns = {
        "attack": "pgd", "norm": "linf", "eps": EPS,
        "success": [True, True, True, False, False, False],
        "distance": [0.0, 0.1, 0.1, None, None, None],
        "check": [*["ok"] * 5, "error: no luck"],
    }  # fmt: skip
    demo.add(pgd, "attacks", range(6), columns)
    verdicts = ["misclassified", "falsified", "verified", "verified", "unknown", "verified"]
    columns = {"property": "untargeted", "norm": "linf", "eps": EPS, "verdict": verdicts}
    demo.add(screen, "verification", range(6), columns)
    return demo


def test_evidence_is_of_sound_rows_and_samples_that_were_classified_correctly(tmp_path):
    table = Results.open(demo_sweep(tmp_path / "s").root).table("demo", "honesty")
    assert set(table["check"]) == set(CHECKS)
    assert len(table) == len(CHECKS)
    assert table["status"].to_list() == ["fail", "warn"] + ["not run"] * (len(CHECKS) - 2)
    shown = {row["check"]: row for row in table.to_dicts()}

    def of(check):
        return [shown[check][name] for name in ("status", "n", "violations", "samples")]

    assert of("loss increases") == ["warn", 2, 1, "4"]  # one sample says little
    assert of("soundness") == ["fail", 2, 1, "2"]
    for check in set(CHECKS) - {"loss increases", "soundness"}:
        assert of(check) == ["not run", 0, 0, None]
        assert shown[check]["detail"]


def test_ten_samples_are_listed(tmp_path):
    demo = DemoSweep(tmp_path / "s")
    pgd = demo.ask("attack", "attacks", "pgd", norm="l2", eps=[9.0], wanted=[(0, 12)])
    columns = {"attack": "pgd", "norm": "l2", "eps": 9.0, "success": False, "check": "ok"}
    demo.add(pgd, "attacks", range(12), columns)
    table = Results.open(tmp_path / "s").table("demo", "honesty")
    row = table.row(by_predicate=pl.col("check") == "huge eps breaks all", named=True)
    assert (row["status"], row["violations"]) == ("fail", 12)
    assert row["samples"] == "0, 1, 2, 3, 4, 5, 6, 7, 8, 9"


def test_steps_that_cannot_cross_the_ball_are_told():
    short = asked(ITERATIVE, steps=40, rel_step_size=1 / 30, random_start=True, abs_step_size=0.0)
    given = rows(SINGLE, {1, 2, 3}) + rows(ITERATIVE, set())
    found_ = found("iterative beats single step", [asked(SINGLE), short], given)
    assert found_.status == "fail"
    assert f"the steps of {ITERATIVE} together are shorter than the ball" in found_.detail
    enough = asked(ITERATIVE, steps=40, rel_step_size=0.05, random_start=True, abs_step_size=0.0)
    assert "wide" not in found("iterative beats single step", [asked(SINGLE), enough], given).detail
