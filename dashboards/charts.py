"""Charts: a frame of a few rows in, an Altair chart out."""

import altair as alt
import polars as pl

from robsweep.orchestrator.results.report import cell, contradicted, eps_text

PROVED, OPEN, UNASKED, PENDING = "proved", "open", "unasked", "pending"
PARTS = [PROVED, OPEN, UNASKED, PENDING]
LEGEND = (
    ":primary[■] proved robust &emsp; :violet[■] open: survives every attack, not proved &emsp; "
    ":gray[■] survives every attack, no proof asked for &emsp; "
    ":blue[■] survives every attack, proofs not run yet &emsp; "
    ":orange[**|**] accuracy without any attack, on the same samples"
)  # the colours are set in .streamlit/config.toml
NORMS = {"linf": "L∞", "l2": "L2", "l1": "L1", "l0": "L0"}


def label(row: dict[str, object]) -> str:
    """A model's name: `cnn / pgd #0`; imported models have neither training nor seed.

    One on a corrupted data set is told from it on the plain one: `cnn / pgd #0 (mnist+fog:3)`.
    """
    training = "" if row["training"] is None else f" / {row['training']}"
    seed = "" if row["seed"] is None else f" #{row['seed']}"
    dataset = str(row.get("dataset") or "")
    return f"{row['model']}{training}{seed}" + (f" ({dataset})" if "+" in dataset else "")


def bracket_bars(leaderboard: pl.DataFrame) -> pl.DataFrame:
    """Two bars per row of a leaderboard: 0 to proved, and proved to unbroken.

    Where both sides exist they are those of the same samples. Without any proof the lower side is
    zero, without any attack the upper one is unknown and the bar ends at what is proved. The tick,
    the accuracy without any attack, is on the bar's own samples, so no bar ends beyond it. A name
    ends with `!` where failing honesty checks contradict the upper side.
    """
    bars = []
    for row in leaderboard.iter_rows(named=True):
        low, high, of = row["bracket_low"], row["bracket_high"], "bracket"
        if low is None:
            low, high, of = 0.0, row["robust_accuracy"], "robust_accuracy"
        if high is None:
            continue
        common = {
            "name": label(row) + (" !" if contradicted(of, row) else ""),
            "ball": f"{NORMS[row['norm']]}, eps {eps_text(row['eps'])}",
            "clean": row[f"{of}_clean"],
            "clean_text": cell("clean_accuracy", row),
            "robust_text": cell("robust_accuracy", row),
            "verified_text": cell("verified_accuracy", row),
            "bracket_text": cell("bracket", row),
            "samples": row[f"{of}_n"],
            "upper": high,
        }
        bars.append({**common, "part": PROVED, "start": 0.0, "stop": low})
        bars.append({**common, "part": _rest(row), "start": low, "stop": high})
    return pl.DataFrame(bars)


def _rest(row: dict[str, object]) -> str:
    """What survives every attack without being proved."""
    if row["verified_accuracy_status"] == "not asked":
        return UNASKED
    return OPEN if row["bracket_low"] is not None else PENDING


def bracket_chart(bars: pl.DataFrame, order: list[str]) -> alt.LayerChart:
    """One row per model; the true robustness lies where the pale bar is.

    Args:
        bars: `bracket_bars` of one norm and eps.
        order: Model labels from top to bottom.
    """
    y = alt.Y("name:N", sort=order, title=None, axis=alt.Axis(labelLimit=220, ticks=False))
    tooltip = [
        alt.Tooltip("name:N", title="model"),
        alt.Tooltip("ball:N", title="ball"),
        alt.Tooltip("bracket_text:N", title="bracket"),
        alt.Tooltip("verified_text:N", title="verified accuracy"),
        alt.Tooltip("robust_text:N", title="robust accuracy"),
        alt.Tooltip("clean_text:N", title="clean accuracy"),
        alt.Tooltip("clean:Q", title="on the bar's samples", format=".1%"),
        alt.Tooltip("samples:Q", title="the bar's samples"),
    ]
    scale = alt.Scale(domain=[0, 1])
    axis = alt.Axis(format="%", tickCount=5, title=None, domain=False)
    base = alt.Chart(bars)
    segments = base.mark_bar(height=14).encode(
        x=alt.X("start:Q", scale=scale, axis=axis),
        x2="stop:Q",
        y=y,
        color=alt.Color(
            "part:N",
            scale=alt.Scale(domain=PARTS),
            legend=None,
        ),
        tooltip=tooltip,
    )
    clean = base.mark_tick(thickness=2, height=20, color="#c8602f").encode(
        x=alt.X("clean:Q", scale=scale), y=y, tooltip=tooltip
    )
    return alt.layer(segments, clean).properties(height=alt.Step(30))
