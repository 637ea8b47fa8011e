"""A table of results as text, CSV, LaTeX or Markdown."""

from collections.abc import Mapping, Sequence
from typing import Any, Literal, get_args

import polars as pl

from robsweep.orchestrator.results.metrics.honesty_checks import SOUNDNESS
from robsweep.orchestrator.results.tables.joint.table import QUESTIONS

Format = Literal["text", "csv", "latex", "markdown"]
FORMATS: tuple[Format, ...] = get_args(Format)

# Shares of samples, printed in percent. The rest has its own scale: distances, nats, seconds.
PERCENT = frozenset(
    {
        "accuracy", "clean_accuracy", "robust_accuracy", "verified_accuracy",
        "attack_success_rate", "bracket", "corruption_error", "mean_corruption_error",
        "worst_case_accuracy",
        "ece", "ece_scaled", "ece_equal_mass", "rms_ce", "mce", "ece_debiased", "ece_if_calibrated",
        "ece_equal_mass_debiased", "rms_ce_debiased", "smooth_ece", "smooth_ece_debiased",
        "classwise_ece", "legacy_ece", "legacy_rms_ce", "legacy_mce", "scaled_accuracy",
        "auroc", "aupr_in", "aupr_out", "fpr95_ood_pos", "fpr95_id_pos", "aurc", "e_aurc",
        "auroc_full_spectrum", "scorer_auroc",
        "error_auroc", "accepted", "accepted_accuracy", "accepted_right", "first_in_halves",
    }
)  # fmt: skip
_PARTS = (
    "_rough_low", "_rough_high", "_low", "_high", "_n", "_wanted", "_status", "_clean", "_n_id",
    "_wanted_id", "_n_ood", "_at_bound", "_spread", "_sampling", "_seeds",
)  # fmt: skip
# What the checks say and which attacks are missing stands beside the numbers themselves.
_BESIDE = ("honesty", "missing_attacks")
_HIDDEN = frozenset({"model_id", "other_model_id", *_BESIDE})
# Of tables that have one row per metric: percent where the metric is.
_OF_METRIC = frozenset({"value", "difference"})
_NOTHING = "-"
_MARK = "!"
_OF_ATTACKS = frozenset(
    {"robust_accuracy", "bracket", "attack_success_rate", "median_distance", "mean_min_distance"}
)
_WITHOUT = frozenset({"robust_accuracy", "bracket", "median_distance"})
_LATEX = str.maketrans(
    {char: f"\\{char}" for char in "%_&#${}"}
    | {"~": r"\textasciitilde{}", "\\": r"\textbackslash{}"}
)


def render(table: pl.DataFrame, form: Format) -> str:
    """A table in one of `FORMATS`, ending in a newline.

    CSV has every column and full precision. The others are for reading: a metric, its interval and
    its count share a cell, such as `98.6 % [97.9, 99.1] n=1000`, and columns without any value are
    left out.
    """
    if form == "csv":
        return table.write_csv()
    return _table(table, form) + _footnotes(table, form)


def _table(table: pl.DataFrame, form: Format) -> str:
    cells = readable(table)
    header, numeric = cells.columns, [name in _numbers(table) for name in cells.columns]
    rows = [list(row) for row in cells.iter_rows()]
    if form == "latex":
        return _latex(header, rows, numeric)
    if form == "markdown":
        rule = ["--:" if right else ":--" for right in numeric]
        escaped = [[cell.replace("|", "\\|") for cell in row] for row in rows]
        return "".join(f"| {' | '.join(row)} |\n" for row in (header, rule, *escaped))
    return _text(header, rows, numeric)


def notes(table: pl.DataFrame) -> list[str]:
    """What the marks in a table stand for, one line per model and norm."""
    if "honesty" not in table.columns:
        return []
    flagged = table.filter(pl.col("honesty").str.starts_with("fail"))
    lines = []
    for row in flagged.iter_rows(named=True):
        keys = ("model", "training", "seed", *_several(table))
        names = [str(row[key]) for key in keys if row.get(key) is not None]
        what = row["honesty"].removeprefix("fail: ")
        lines.append(
            f"{_MARK} {'/'.join(names)} {row['norm']}: honesty checks contradict it: {what}"
        )
    return list(dict.fromkeys(lines))


def _footnotes(table: pl.DataFrame, form: Format) -> str:
    lines = notes(table)
    if form == "markdown":
        return "".join(f"\n{line}\n" for line in lines)
    if form == "latex":
        return "".join(rf"\par\footnotesize {line.translate(_LATEX)}" + "\n" for line in lines)
    return "".join(f"{line}\n" for line in lines)


def leaderboard_text(table: pl.DataFrame) -> str:
    """The leaderboard as two tables that fit a terminal: one row per ball, one row per model."""
    balls = ("norm", "eps", "robust_accuracy", "verified_accuracy", "unsolved", "bracket", *_BESIDE)
    whole = ("clean_accuracy", "ece", "ece_scaled", "auroc", "auroc_of", "warnings")
    named = ("model", "training", "seed", "seeds", *_several(table))
    keys = [name for name in named if name in table.columns]

    def of(metrics: Sequence[str]) -> list[str]:
        return [name for name in table.columns if _base(name) in metrics]

    per_ball = table.select(*keys, *of(balls)).filter(pl.col("eps").is_not_null())
    per_model = table.select(*keys, *of(whole)).unique(maintain_order=True)
    shown = [per_model, per_ball] if len(per_ball) else [per_model]
    text = "\n".join(_table(part, "text") for part in shown)
    if "bracket_n" in table.columns and table["bracket_n"].fill_null(0).sum():
        text += "each share is of its own n samples; a bracket has both sides on the same ones\n"
    return text + _footnotes(table, "text")


def honesty_text(table: pl.DataFrame) -> str:
    """The honesty checks that ran; then those that did not, once each, and what they need."""
    ran = pl.col("status") != "not run"
    text = render(table.filter(ran), "text")
    key = ["norm", "check", "detail"]
    absent = table.filter(~ran).group_by(key, maintain_order=True).agg(pl.len().alias("models"))
    if absent.is_empty():
        return text
    return f"{text}\nnot run:\n{render(absent.select('norm', 'check', 'models', 'detail'), 'text')}"


def joint_text(table: pl.DataFrame) -> str:
    """One table per question, each with the columns that it has."""
    parts = []
    for (question,), rows in table.group_by(["question"], maintain_order=True):
        shown = render(rows.drop("question"), "text")
        parts.append(f"{question}: {QUESTIONS[str(question)]}\n{shown}")
    return "\n".join(parts) or render(table, "text")


def readable(table: pl.DataFrame) -> pl.DataFrame:
    """The table with one text column per metric."""
    hidden = _HIDDEN if _several(table) else _HIDDEN | {"dataset"}
    names = [name for name in _bases(table) if name not in hidden and not _empty(table, name)]
    return pl.DataFrame(
        {name: [cell(name, row) for row in table.iter_rows(named=True)] for name in names},
        schema=dict.fromkeys(names, pl.String),
    )


def _several(table: pl.DataFrame) -> list[str]:
    """The column that tells data sets apart, where a table has several of them."""
    there = "dataset" in table.columns and table["dataset"].n_unique() > 1
    return ["dataset"] if there else []


def cell(name: str, row: Mapping[str, Any]) -> str:
    """One metric of a row with its interval and count, or one plain value."""
    value, low, high = row.get(name), row.get(f"{name}_low"), row.get(f"{name}_high")
    if value is None and low is None:
        return absent(name, row)
    if name == "eps":
        return eps_text(row[name])
    percent = _in_percent(name, row)
    unit = " %" if percent else ""
    if value is None:  # a bracket is two bounds around no estimate
        text = f"{number(low, percent=percent)} .. {number(high, percent=percent)}{unit}"
        limits = ""
    else:
        text = number(value, percent=percent) + unit
        limits = interval(name, row) or between_seeds(name, row)
    parts = [text, _MARK if contradicted(name, row) else "", limits, counted(name, row)]
    return " ".join([*filter(None, parts), *without(name, row)])


def _in_percent(name: str, row: Mapping[str, Any]) -> bool:
    return name in PERCENT or (name in _OF_METRIC and row.get("metric") in PERCENT)


def absent(name: str, row: Mapping[str, Any]) -> str:
    """Why a metric has no value: `-` where it was not asked for, else how far it is."""
    status = row.get(f"{name}_status")
    if status in (None, "not asked", "done"):
        return _NOTHING
    if status == "running":
        return f"running {row.get(f'{name}_n') or 0}/{row.get(f'{name}_wanted')}"
    why = row.get("missing_attacks") if name in _WITHOUT else None
    return f"{status} ({why})" if status == "failed" and why else str(status)


def contradicted(name: str, row: Mapping[str, Any]) -> bool:
    """Whether failing honesty checks speak against this number."""
    flag = row.get("honesty") or ""
    if not flag.startswith("fail"):
        return False
    low, high = row.get(f"{name}_low"), row.get(f"{name}_high")
    if name == "verified_accuracy" or (name == "bracket" and low == high):
        # proofs alone speak here: where both sides agree, no stronger attack would find more
        return SOUNDNESS in flag
    return name in _OF_ATTACKS


def without(name: str, row: Mapping[str, Any]) -> list[str]:
    """`(without hopskipjump: raised ValueError)`, of a worst case that lacks attacks.

    Of a scaled number, `(fit at its bound)` where no temperature is best.
    """
    if row.get(f"{name}_at_bound"):
        return ["(fit at its bound)"]
    missing = row.get("missing_attacks") if name in _WITHOUT else None
    return [f"(without {missing})"] if missing else []


def interval(name: str, row: Mapping[str, Any]) -> str:
    """`[97.9, 99.1]`, `[up to 99.1]` of an upper limit alone, or nothing where there is none."""
    low, high = row.get(f"{name}_low"), row.get(f"{name}_high")
    percent = _in_percent(name, row)
    if high is None:
        return ""
    if low is None:
        return f"[up to {number(high, percent=percent)}]"
    return f"[{number(low, percent=percent)}, {number(high, percent=percent)}]"


def between_seeds(name: str, row: Mapping[str, Any]) -> str:
    """`+- 0.3 (3 seeds; sampling 0.5)`, of a mean over seeds; nothing of another number."""
    seeds = row.get(f"{name}_seeds")
    if seeds is None:
        return ""
    percent = _in_percent(name, row)
    spread, sampling = row.get(f"{name}_spread"), row.get(f"{name}_sampling")
    parts = [] if spread is None else [f"+- {number(spread, percent=percent)}"]
    of = [f"{seeds} seed{'' if seeds == 1 else 's'}"]
    of += [] if sampling is None else [f"sampling {number(sampling, percent=percent)}"]
    return " ".join([*parts, f"({'; '.join(of)})"])


def counted(name: str, row: Mapping[str, Any]) -> str:
    """`n=1000`, or `n=250/1000` where not all samples that were asked for have run.

    Of a number about two sets, `n=50 ID + 10000 OOD`.
    """
    n, n_id = row.get(f"{name}_n"), row.get(f"{name}_n_id")
    if n is None:
        return ""
    outside = _of_wanted(n, row.get(f"{name}_wanted"))
    if n_id is None:
        return f"n={outside}"
    return f"n={_of_wanted(n_id, row.get(f'{name}_wanted_id'))} ID + {outside} OOD"


def _of_wanted(n: int, wanted: int | None) -> str:
    return str(n) if wanted in (None, n) else f"{n}/{wanted}"


def number(value: Any, *, percent: bool = False) -> str:
    """Percent with one decimal, floats with four digits, the rest as it is."""
    if percent:
        return f"{100 * value:.1f}"
    return f"{value:.4g}" if isinstance(value, float) else str(value)


def eps_text(eps: float | None) -> str:
    """0.1 as `0.1`, 8/255 as `8/255`."""
    if eps is None:
        return _NOTHING
    of_255 = round(eps * 255, 6)
    return f"{of_255:g}/255" if len(repr(eps)) > 6 and of_255.is_integer() else f"{eps:g}"


def _base(name: str) -> str:
    return name.removesuffix(next((part for part in _PARTS if name.endswith(part)), ""))


def _bases(table: pl.DataFrame) -> list[str]:
    """Column names without the parts of a metric; `bracket` has only parts."""
    names = []
    for name in table.columns:
        base = _base(name)
        if base not in names and (base == name or base in table.columns or base in PERCENT):
            names.append(base)
        elif base != name and base not in names:
            names.append(name)
    return names


def _empty(table: pl.DataFrame, name: str) -> bool:
    """Whether a column says nothing in any row: no value, and not that one is to come."""
    shown = name if name in table.columns else f"{name}_low"
    if not len(table) or not table[shown].is_null().all():
        return False
    status = f"{name}_status"
    return status not in table.columns or bool(
        table[status].is_in(["not asked"]).fill_null(value=True).all()
    )


def _numbers(table: pl.DataFrame) -> set[str]:
    text = {name for name, kind in table.schema.items() if kind == pl.String}
    return set(_bases(table)) - text


def _text(header: Sequence[str], rows: Sequence[Sequence[str]], numeric: Sequence[bool]) -> str:
    widths = [max(map(len, column)) for column in zip(header, *rows, strict=True)]
    lines = [
        "  ".join(
            value.rjust(width) if right else value.ljust(width)
            for value, width, right in zip(row, widths, numeric, strict=True)
        ).rstrip()
        for row in (header, ["-" * width for width in widths], *rows)
    ]
    return "\n".join(lines) + "\n"


def _latex(header: Sequence[str], rows: Sequence[Sequence[str]], numeric: Sequence[bool]) -> str:
    def line(row: Sequence[str]) -> str:
        return "  " + " & ".join(value.translate(_LATEX) for value in row) + r" \\"

    columns = "".join("r" if right else "l" for right in numeric)
    return "\n".join(
        [
            rf"\begin{{tabular}}{{{columns}}}  % \usepackage{{booktabs}}",
            r"  \toprule",
            line(header),
            r"  \midrule",
            *map(line, rows),
            r"  \bottomrule",
            r"\end{tabular}",
            "",
        ]
    )
