"""The network as a mixed-integer linear program, solved by scipy's HiGHS in a child process."""

import io
import json
import os
import subprocess
import sys
import time
from pathlib import Path
from typing import NamedTuple

import numpy as np
from scipy import sparse

import robsweep
from robsweep.tasks.recheck.bounds import Box
from robsweep.tasks.recheck.layers import Affine, Layer, Max, Relu

COMMAND = ("-P", "-m", "robsweep.tasks.recheck.milp_process")
# HiGHS may violate constraints by as much: a smaller bound on a margin shows nothing
TOLERANCE = 1e-6
_START = 5.0  # seconds that the child may take besides solving


class Answer(NamedTuple):
    """What the solver says about the smallest value of one output."""

    output: int
    status: str
    late: bool  # whether it ran out of time
    bound: float | None  # a lower bound on it
    pixels: list[float] | None  # where the solver has found it smallest


class Program(NamedTuple):
    """Variables with bounds, rows, and the variable of each output; the pixels come first."""

    lower: np.ndarray
    upper: np.ndarray
    integer: np.ndarray
    rows: sparse.csr_array
    row_lower: np.ndarray
    row_upper: np.ndarray
    outputs: np.ndarray


def smallest(
    layers: list[Layer], found: list[Box], outputs: np.ndarray, limit: float
) -> list[Answer]:
    """Bounds outputs from below one after the other, until one may be <= `TOLERANCE`.

    Args:
        found: What enters each layer, and what leaves the network.
        limit: Seconds for all of them together; what is not answered by then is left out.
    """
    program = encoded(layers, found)
    buffer = io.BytesIO()
    rows = program.rows.tocoo()
    np.savez(
        buffer,
        lower=program.lower,
        upper=program.upper,
        integer=program.integer,
        row=rows.coords[0],
        column=rows.coords[1],
        value=rows.data,
        row_lower=program.row_lower,
        row_upper=program.row_upper,
        asked=outputs,
        variables=program.outputs[outputs],
        pixels=len(found[0].lower),
        tolerance=TOLERANCE,
        deadline=time.monotonic() + limit,
    )
    root = str(Path(robsweep.__file__).parents[1])
    environment = {**os.environ, "PYTHONPATH": root, "OMP_NUM_THREADS": "1"}
    try:
        done = subprocess.run(
            [sys.executable, *COMMAND],
            input=buffer.getvalue(),
            capture_output=True,
            timeout=1.1 * limit + _START,
            env=environment,
            check=False,
        )
        lines = done.stdout
    except subprocess.TimeoutExpired as late:
        lines = late.stdout or b""
    whole = [line for line in lines.splitlines(keepends=True) if line.endswith(b"\n")]
    return [Answer(**json.loads(line)) for line in whole]


class _Rows:
    """Variables and rows as they are added."""

    def __init__(self) -> None:
        self.lower: list[np.ndarray] = []
        self.upper: list[np.ndarray] = []
        self.integer: list[np.ndarray] = []
        self.blocks: list[tuple[np.ndarray, np.ndarray, np.ndarray]] = []
        self.limits: list[tuple[np.ndarray, np.ndarray]] = []
        self.variables = self.rows = 0

    def add(self, lower: np.ndarray, upper: np.ndarray, *, integer: bool = False) -> np.ndarray:
        """New variables; returns their numbers."""
        self.lower.append(lower)
        self.upper.append(upper)
        self.integer.append(np.full(len(lower), int(integer)))
        self.variables += len(lower)
        return np.arange(self.variables - len(lower), self.variables)

    def row(
        self, lower: np.ndarray | float, upper: np.ndarray | float, *terms: tuple[np.ndarray, ...]
    ) -> None:
        """New rows `lower <= sum of value * variable <= upper` of terms (row, variable, value)."""
        n = max(int(rows.max()) for rows, _, _ in terms if len(rows)) + 1
        for rows, variables, values in terms:
            self.blocks.append((rows + self.rows, variables, values))
        self.limits.append((np.broadcast_to(lower, n), np.broadcast_to(upper, n)))
        self.rows += n


def encoded(layers: list[Layer], found: list[Box]) -> Program:
    """One variable per value; a ReLU or maximum that is undecided gets binary ones."""
    rows = _Rows()
    columns = rows.add(found[0].lower, found[0].upper)
    zero = rows.add(np.zeros(1), np.zeros(1))  # stands for every ReLU that is off
    for layer, box, after in zip(layers, found, found[1:], strict=False):
        match layer:
            case Affine(matrix, bias):
                columns = _affine(rows, columns, sparse.coo_array(matrix), bias, after, zero)
            case Relu():
                columns = _relu(rows, columns, box, layer.on(len(columns)), zero)
            case Max(windows):
                columns = _max(rows, columns, box, windows)
    block = [np.concatenate(part) for part in zip(*rows.blocks, strict=True)]
    size = (rows.rows, rows.variables)
    limits = [np.concatenate(part) for part in zip(*rows.limits, strict=True)]
    return Program(
        np.concatenate(rows.lower),
        np.concatenate(rows.upper),
        np.concatenate(rows.integer),
        sparse.csr_array((block[2], (block[0], block[1])), shape=size),
        limits[0],
        limits[1],
        columns,
    )


def _affine(
    rows: _Rows,
    columns: np.ndarray,
    matrix: sparse.coo_array,
    bias: np.ndarray,
    after: Box,
    zero: np.ndarray,
) -> np.ndarray:
    z = rows.add(after.lower, after.upper)
    place, source = matrix.coords
    counts = columns[source] != zero
    everything = np.arange(len(z))
    terms = (place[counts], columns[source[counts]], -matrix.data[counts])
    rows.row(bias, bias, (everything, z, np.ones(len(z))), terms)
    return z


def _relu(
    rows: _Rows, columns: np.ndarray, box: Box, bent: np.ndarray, zero: np.ndarray
) -> np.ndarray:
    result = np.where(~bent | (box.upper > 0), columns, zero)
    units = np.flatnonzero(bent & (box.lower < 0) & (box.upper > 0))
    if not len(units):
        return result
    lower, upper, n = box.lower[units], box.upper[units], len(units)
    i, one = np.arange(n), np.ones(n)
    h = rows.add(np.zeros(n), upper)
    on = rows.add(np.zeros(n), one, integer=True)
    z = columns[units]
    rows.row(0.0, np.inf, (i, h, one), (i, z, -one))  # h >= z
    rows.row(-np.inf, -lower, (i, h, one), (i, z, -one), (i, on, -lower))  # h <= z - l (1 - on)
    rows.row(-np.inf, 0.0, (i, h, one), (i, on, -upper))  # h <= u on
    result[units] = h
    return result


def _max(rows: _Rows, columns: np.ndarray, box: Box, windows: np.ndarray) -> np.ndarray:
    single = (windows == windows[:, :1]).all(axis=1)
    result: np.ndarray = columns[windows[:, 0]]
    if not single.all():
        result[~single] = _largest(rows, columns, box, windows[~single])
    return result


def _largest(rows: _Rows, columns: np.ndarray, box: Box, windows: np.ndarray) -> np.ndarray:
    n, taps = windows.shape
    most = box.upper[windows].max(axis=1)
    y = rows.add(box.lower[windows].max(axis=1), most)
    i, one = np.arange(n), np.ones(n)
    chosen = [rows.add(np.zeros(n), one, integer=True) for _ in range(taps)]
    rows.row(1.0, 1.0, *[(i, choice, one) for choice in chosen])
    for tap, choice in enumerate(chosen):
        x, gap = columns[windows[:, tap]], most - box.lower[windows[:, tap]]
        rows.row(0.0, np.inf, (i, y, one), (i, x, -one))  # y >= x
        rows.row(-np.inf, gap, (i, y, one), (i, x, -one), (i, choice, gap))  # y <= x if chosen
    return y
