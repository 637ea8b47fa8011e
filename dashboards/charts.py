"""Charts: a frame of a few rows in, an Altair chart out."""

import altair as alt
import polars as pl

from robsweep.orchestrator.results.report import cell, eps_text

PROVED, OPEN, UNASKED = "proved", "open", "unasked"
LEGEND = (
    ":primary[■] proved robust &emsp; :violet[■] open: survives every attack, not proved &emsp; "
    ":gray[■] survives every attack, no proof asked for &emsp; :orange[**|**] clean accuracy"
)  # the colours are set in .streamlit/config.toml
NORMS = {"linf": "L∞", "l2": "L2", "l1": "L1", "l0": "L0"}


def label(row: dict[str, object]) -> str:
    """A model's name: `cnn / pgd #0`; imported models have neither training nor seed."""
    training = "" if row["training"] is None else f" / {row['training']}"
    seed = "" if row["seed"] is None else f" #{row['seed']}"
    return f"{row['model']}{training}{seed}"


def bracket_bars(leaderboard: pl.DataFrame) -> pl.DataFrame:
    """Two bars per row of a leaderboard: 0 to proved, and proved to unbroken.

    Where both sides exist they are those of the same samples. Without any proof the lower side is
    zero, without any attack the upper one is unknown and the bar ends at what is proved.
    """
    bars = []
    for row in leaderboard.iter_rows(named=True):
        low, high = row["bracket_low"], row["bracket_high"]
        if low is None:
            low, high = 0.0, row["robust_accuracy"]
        if high is None:
            continue
        common = {
            "name": label(row),
            "ball": f"{NORMS[row['norm']]}, eps {eps_text(row['eps'])}",
            "clean": row["clean_accuracy"],
            "clean_text": cell("clean_accuracy", row),
            "robust_text": cell("robust_accuracy", row),
            "verified_text": cell("verified_accuracy", row),
            "bracket_text": cell("bracket", row),
            "upper": high,
        }
        bars.append({**common, "part": PROVED, "start": 0.0, "stop": low})
        part = OPEN if row["verified_accuracy"] is not None else UNASKED
        bars.append({**common, "part": part, "start": low, "stop": high})
    return pl.DataFrame(bars)


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
            scale=alt.Scale(domain=[PROVED, OPEN, UNASKED]),
            legend=None,
        ),
        tooltip=tooltip,
    )
    clean = base.mark_tick(thickness=2, height=20, color="#c8602f").encode(
        x=alt.X("clean:Q", scale=scale), y=y, tooltip=tooltip
    )
    return alt.layer(segments, clean).properties(height=alt.Step(30))
