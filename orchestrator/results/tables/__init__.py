"""The tables of `robsweep show`: one row per thing compared, metrics with intervals and counts."""
