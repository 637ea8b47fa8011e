"""Robustness sweeps: attacks, out-of-distribution detection, calibration, formal verification."""
