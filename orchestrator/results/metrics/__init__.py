"""Metrics: pure functions on arrays and polars frames. Never stored, computed here, once."""
