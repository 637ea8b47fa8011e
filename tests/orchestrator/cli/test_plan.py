"""What `robsweep plan` prints, in its three degrees of detail."""

from tests.sweeps import TINY, plan_of, sweep


def columns(text):
    lines = text.splitlines()
    starts = [i for i, c in enumerate(lines[0]) if c != " " and (i == 0 or lines[0][i - 1] == " ")]
    return [line.split() for line in lines], starts


def test_a_line_per_measurement_in_the_order_of_the_plan(robsweep, tmp_path):
    code, out, err = robsweep("plan", sweep(), "--detail")
    assert code == 0, err
    rows, _ = columns(out)
    assert [row[0] for row in rows[1:]] == [*plan_of(TINY).measurements]
    assert {len(row) for row in rows} == {10}
    assert "\t" not in out
    attack = next(row for row in rows if row[0].startswith("attack-"))
    assert attack[1:8] == ["attack", "mlp/standard/0", "pgd", "attacks", "100", "0", "100"]
    assert robsweep("plan", "sweep.yaml", "--detail")[1] == out
    assert not (tmp_path / "results").exists()


def test_reasons_stand_under_their_head(robsweep):
    code, out, err = robsweep("plan", sweep(), "--why")
    assert code == 0, err
    head, *lines = out.splitlines()
    assert len(lines) == len(plan_of(TINY).measurements)
    assert {line[head.index("why") :][:4] for line in lines} == {"new:"}


def test_after_a_run_an_edit_is_the_only_reason(robsweep):
    small = TINY.replace("  pgd:", "  fgsm: {attack: LinfFastGradient, eps: 0.1}\n  pgd:")
    code, _, err = robsweep("run", sweep(small), "--only", "predict")
    assert code == 0, err
    assert robsweep("run", "sweep.yaml", "--only", "attack")[0] == 0
    sweep(small.replace("steps: 2", "steps: 3"))
    out = robsweep("plan", "sweep.yaml", "--why")[1]
    (line,) = [line for line in out.splitlines() if " attacks.pgd " in line]
    assert line.endswith("steps: 2 -> 3")
    assert " attacks.fgsm " not in out


def test_whole_groups_are_explained_below_the_sums(robsweep):
    text = TINY.replace("samples: 100\n", "samples: 60\n").replace(", group_size: 50", "")
    out = robsweep("plan", sweep(text))[1]
    assert "attacks.pgd" in out
    assert "samples: 60, computed in groups of 250: group_size: 60 computes no more" in out
