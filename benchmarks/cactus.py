"""How many instances of each VNN-COMP set are answered in how many seconds, and in what memory.

    python benchmarks/cactus.py FOLDER/*/instances.csv --out cactus.csv

Each list by `robsweep verify --instances`, one instance after the other within its own
`timeout_seconds` (or `--limit`, if that is less). One row each: set (its folder), instance,
verdict, expected, seconds, limit, and the largest memory of all processes together while the list
ran, looked at ten times a second. Lists that are in the file already are not run again; without
lists it only prints. Exits 1 if an answer is wrong.
"""

import argparse
import csv
import os
import subprocess
import sys
import tempfile
import time
from collections import defaultdict
from pathlib import Path

COLUMNS = ("set", "instance", "verdict", "expected", "seconds", "limit", "peak_bytes")
DECIDED = ("sat", "unsat")
WITHIN = (0.1, 0.3, 1, 2, 5, 10, 20, 60, 120, 300)  # seconds, of the table
Row = dict[str, str]


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("lists", type=Path, nargs="*")
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--limit", type=float, default=float("inf"))
    options = parser.parse_args()
    done = {row["set"] for row in stored(options.out)}
    for file in options.lists:
        if file.resolve().parent.name not in done:
            append(options.out, answered(file.resolve(), options.limit))
    return report(stored(options.out))


def answered(file: Path, most: float) -> list[Row]:
    """The rows of a list."""
    with file.open() as stream:
        asked = list(csv.DictReader(stream))
    limits = [min(float(one["timeout_seconds"]), most) for one in asked]
    with tempfile.TemporaryDirectory() as place:
        given, out = Path(place) / "given.csv", Path(place) / "ours.csv"
        with given.open("w", newline="") as stream:
            rows = csv.writer(stream)
            rows.writerow(("onnx", "vnnlib", "timeout_seconds"))
            for one, limit in zip(asked, limits, strict=True):
                rows.writerow([*(file.parent / one[key] for key in ("onnx", "vnnlib")), limit])
        command = ["verify", "--instances", str(given), "--out", str(out)]
        running = subprocess.Popen(
            [sys.executable, "-m", "robsweep", *command], stdout=subprocess.DEVNULL
        )
        peak = 0
        while running.poll() is None:
            peak = max(peak, bytes_of(running.pid))
            time.sleep(0.1)
        with out.open() as stream:
            answers = list(csv.DictReader(stream))
    return [
        {
            "set": file.parent.name,
            "instance": f"{Path(one['onnx']).name} {Path(one['vnnlib']).name}",
            "verdict": answer["verdict"],
            "expected": one.get("expected", ""),
            "seconds": answer["seconds"],
            "limit": f"{limit:g}",
            "peak_bytes": str(peak),
        }
        for one, answer, limit in zip(asked, answers, limits, strict=True)
    ]


def bytes_of(root: int) -> int:
    """Resident memory of a process and all that it has started."""
    parents, pages = {}, {}
    for file in Path("/proc").glob("[0-9]*/stat"):
        try:
            fields = file.read_text().rpartition(")")[2].split()
        except OSError:  # it has ended meanwhile
            continue
        pid = int(file.parent.name)
        parents[pid], pages[pid] = int(fields[1]), int(fields[21])
    tree, grown = {root}, True
    while grown:
        more = {pid for pid, parent in parents.items() if parent in tree} - tree
        tree, grown = tree | more, bool(more)
    return sum(pages.get(pid, 0) for pid in tree) * os.sysconf("SC_PAGE_SIZE")


def append(out: Path, found: list[Row]) -> None:
    fresh = not out.exists()
    with out.open("a", newline="") as stream:
        rows = csv.DictWriter(stream, COLUMNS)
        if fresh:
            rows.writeheader()
        rows.writerows(found)


def stored(out: Path) -> list[Row]:
    if not out.exists():
        return []
    with out.open() as stream:
        return list(csv.DictReader(stream))


def report(rows: list[Row]) -> int:
    sets: dict[str, list[Row]] = defaultdict(list)
    for row in rows:
        sets[row["set"]].append(row)
    heads = " | ".join(f"{t:g} s" for t in WITHIN)
    print(f"| set | instances | answered | wrong | {heads} | seconds in all | GB |")
    print("|" + "---|" * (len(WITHIN) + 6))
    bad = 0
    for name, here in sets.items():
        right = sorted(float(row["seconds"]) for row in here if is_right(row))
        wrong = [row for row in here if row["verdict"] in DECIDED and not is_right(row)]
        bad += len(wrong)
        counts = " | ".join(str(sum(s <= t for s in right)) for t in WITHIN)
        peak = max(int(row["peak_bytes"]) for row in here) / 1e9
        print(
            f"| {name} | {len(here)} | {len(right)} | {len(wrong)} | {counts} "
            f"| {sum(float(row['seconds']) for row in here):.0f} | {peak:.2f} |"
        )
        for row in wrong:
            print(f"WRONG: {row}", file=sys.stderr)
    return int(bad > 0)


def is_right(row: Row) -> bool:
    return row["verdict"] in DECIDED and row["expected"] in (row["verdict"], "")


if __name__ == "__main__":
    sys.exit(main())
