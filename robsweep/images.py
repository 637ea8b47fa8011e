"""Adversarials and counterexamples that a store keeps, joined with images and labels."""

import json
import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import polars as pl

from robsweep.orchestrator.errors import InputError, StoreError
from robsweep.orchestrator.plan.recorded import recorded
from robsweep.orchestrator.results.metrics.planned import Asked, Model
from robsweep.orchestrator.results.metrics.verification import final_verdicts
from robsweep.orchestrator.results.report import eps_text
from robsweep.orchestrator.results.results import Results
from robsweep.orchestrator.results.wanted import wanted
from robsweep.orchestrator.settings import Settings
from robsweep.orchestrator.spec.yaml_file import did_you_mean
from robsweep.tasks.catalogue.code.own_code import importable
from robsweep.tasks.catalogue.words import word_of


@dataclass(frozen=True, eq=False)
class Adversarials:
    """One row per sample and eps, sorted so; all arrays have length n.

    Images are float32 in [0, 1], of the data set's shape. Where no adversarial was found, the last
    one tried stands in its place.
    """

    samples: np.ndarray  # int64: indices in the data set's split
    images: np.ndarray  # (n, *shape)
    labels: np.ndarray  # int64
    adversarials: np.ndarray  # (n, *shape)
    eps: np.ndarray  # float64; NaN of a min-norm attack
    predicted: np.ndarray  # int64: class of the adversarial, as the sweep saw it
    success: np.ndarray  # bool; misclassified images count, at distance 0
    distance: np.ndarray  # float64, in the attack's norm; NaN where none was found

    def __len__(self) -> int:
        return len(self.samples)


@dataclass(frozen=True, eq=False)
class Counterexamples:
    """One row per falsified sample, property and eps; all arrays have length n.

    Images are float32 in [0, 1], of the data set's shape.
    """

    samples: np.ndarray  # int64: indices in the data set's split
    images: np.ndarray  # (n, *shape)
    labels: np.ndarray  # int64
    counterexamples: np.ndarray  # (n, *shape)
    eps: np.ndarray  # float64: radius that was asked about; NaN of a box
    properties: np.ndarray  # str, as in the verification table
    decided_by: np.ndarray  # str: the stage that found it

    def __len__(self) -> int:
        return len(self.samples)


class Chosen(NamedTuple):
    """Which model of a sweep is meant; None where there is only one to mean."""

    model: str | None
    training: str | None
    seed: int | None

    def fits(self, model: Model) -> bool:
        return (
            self.model in (None, model.model)
            and self.training in (None, model.training)
            and self.seed in (None, model.seed)
        )

    def among(self, candidates: list[Model], what: str) -> Model:
        """The one that is meant.

        Raises:
            InputError: None is, or several are.
        """
        for key in ("model", "training", "seed"):
            known = {str(getattr(m, key)) for m in candidates if getattr(m, key) is not None}
            given = getattr(self, key)
            if given is not None and str(given) not in known:
                hint = did_you_mean(str(given), known)
                raise InputError(f"{what}: no {key} {given!r}{hint}")
        found = [model for model in candidates if self.fits(model)]
        if len(found) != 1:
            names = ", ".join(_label(model) for model in found or candidates)
            problem = "fits several models" if found else "fits no model"
            raise InputError(f"{what}: {problem}, name one by model=, training=, seed=: {names}")
        return found[0]


class Kept:
    """What a store keeps of one sweep beside rows."""

    def __init__(self, results: Results, sweep: str, settings: Settings) -> None:
        self._results, self._sweep, self._settings = results, sweep, settings
        self._models = results.models(sweep)

    def adversarials(self, attack: str, chosen: Chosen, eps: float | str | None) -> Adversarials:
        what = f"attack {attack!r} of sweep {self._sweep!r}"
        names = {a.entry for model in self._models for a in model.of("attack")}
        if attack not in names:
            hint = did_you_mean(attack, names) or ": it attacks nothing"
            raise InputError(f"sweep {self._sweep!r} has no attack {attack!r}{hint}")
        attacked = {
            model.model_id: asked
            for model in self._models
            for asked in model.of("attack")
            if asked.entry == attack
        }
        here = [m for m in self._models if any(a.entry == attack for a in m.of("attack"))]
        asked = attacked[chosen.among(here, what).model_id]
        rows = wanted(self._results.rows, "attacks", [asked]).collect()
        if rows.is_empty():
            raise InputError(f"{what} has not run on this model yet: `robsweep.run` it first")
        rows = _at(rows, asked, eps, what).sort("sample", "eps", nulls_last=True)
        kept = self._tensors("adversarials", asked.measurement_id)
        found = _Finder(kept)
        adversarials = [
            found.at(_tensor_name(row["eps"]), row["sample"])
            for row in rows.select("sample", "eps").iter_rows(named=True)
        ]
        if any(adversarial is None for adversarial in adversarials):
            raise InputError(
                f"{what}: the store has not kept all adversarials; it keeps them unless the entry "
                "says `keep_adversarials: false`"
            )
        samples, images, labels = self._joined(rows, asked.dataset, asked.split)
        return Adversarials(
            samples,
            images,
            labels,
            np.stack([a for a in adversarials if a is not None]),
            _floats(rows["eps"]),
            rows["adversarial_predicted"].to_numpy(),
            rows["success"].to_numpy(),
            _floats(rows["distance"]),
        )

    def counterexamples(
        self,
        chosen: Chosen,
        eps: float | str | None,
        property_: str | None,
        dataset: str | None = None,
    ) -> Counterexamples:
        what = f"verification of sweep {self._sweep!r}"
        here = [model for model in self._models if model.of("screen")]
        if not here:
            raise InputError(f"sweep {self._sweep!r} verifies nothing")
        names = {str(model.dataset) for model in here}
        named = str(here[0].dataset) if dataset is None else dataset
        if named not in names:
            raise InputError(f"{what}: no data set {named!r}{did_you_mean(named, names)}")
        here = [model for model in here if model.dataset == named]
        screens = chosen.among(here, what).of("screen")
        known = sorted({screen.property for screen in screens})
        if property_ is not None and property_ not in known:
            raise InputError(f"{what}: no property {property_!r}{did_you_mean(property_, known)}")
        rows = wanted(self._results.rows, "verification", screens).collect()
        falsified = final_verdicts(rows).filter(pl.col("verdict") == "falsified")
        if property_ is not None:
            falsified = falsified.filter(pl.col("property") == property_)
        if eps is not None:
            radius = _matching(eps, [e for screen in screens for e in screen.eps], what)
            falsified = falsified.filter(pl.col("eps") == radius)
        falsified = falsified.sort("property", "eps", "sample", nulls_last=True)
        images = self._counterexamples(set(falsified["measurement_id"]))
        found = []
        for key, sample in falsified.select("measurement_id", "sample").iter_rows():
            if (key, sample) not in images:
                raise StoreError(
                    f"{self._results.store.root} has lost the counterexample of {key}, sample "
                    f"{sample}: `robsweep recheck {self._sweep}` says what else is missing"
                )
            found.append(images[key, sample])
        samples, clean, labels = self._joined(falsified, screens[0].dataset, screens[0].split)
        return Counterexamples(
            samples,
            clean,
            labels,
            np.stack(found) if found else clean[:0],
            _floats(falsified["eps"]),
            np.array(falsified["property"].to_list(), dtype=str),
            np.array(falsified["decided_by"].to_list(), dtype=str),
        )

    def _counterexamples(self, keys: set[str]) -> dict[tuple[str, int], np.ndarray]:
        return {
            (key, int(name)): image
            for key in sorted(keys)
            for _, tensors in self._tensors("counterexamples", key)
            for name, image in tensors.items()
        }

    def _tensors(
        self, folder: str, measurement_id: str
    ) -> Iterator[tuple[int, Mapping[str, np.ndarray]]]:
        """The first sample of each file of a measurement, and its tensors."""
        from safetensors import SafetensorError
        from safetensors.numpy import load

        files = self._results.store.files
        for path in sorted(files.list(f"artifacts/{folder}")):
            key, start, _ = path.rsplit("/", 1)[1].rsplit("-", 2)
            if key == measurement_id:
                try:
                    yield int(start), load(files.read(path))
                except (SafetensorError, ValueError) as error:
                    where = self._results.store.root / path
                    raise StoreError(f"{where} is damaged: {error}") from error

    def _joined(
        self, rows: pl.DataFrame, dataset: str, split: str
    ) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Samples of rows, and their images and labels."""
        from robsweep.tasks.data.load import load

        samples = rows["sample"].to_numpy()
        data_dir, files, paths = self._places(dataset)
        with importable(paths, {}):
            data = load(dataset, split, data_dir, files, samples=samples.tolist())
        return samples, data.images.numpy()[samples], data.labels.numpy()[samples]

    def _places(self, dataset: str) -> tuple[str, dict[str, str], tuple[str, ...]]:
        """The data dir, the file of a user's own data set, and where a user's modules lie."""
        store, word = self._results.store, word_of(dataset)
        own_code = word.corruption is not None and word.corruption.sha256
        if not word.base.startswith("npz:") and not own_code:
            env = json.loads(store.files.read(f"sweeps/{self._sweep}/env.json"))
            given = self._settings.data_dir_given
            return str(self._settings.data_dir) if given else env["data_dir"], {}, ()
        spec, settings = recorded(store, self._sweep, self._settings)
        known = {one.name: one for one in (spec.dataset, *spec.datasets.values())}
        if dataset not in known:
            what = spec.dataset.file or dataset
            raise InputError(
                f"{what} has changed since sweep {self._sweep!r} ran: it is another data set now"
            )
        file = known[dataset].file
        files = {} if file is None else {word.base: file}
        return str(settings.data_dir), files, (str(spec.folder),)


class _Finder:
    """Looks samples up in the files of a measurement, each of which holds a range of them."""

    def __init__(self, kept: Iterator[tuple[int, Mapping[str, np.ndarray]]]) -> None:
        self._kept = list(kept)

    def at(self, name: str, sample: int) -> np.ndarray | None:
        for start, tensors in self._kept:
            if name in tensors and start <= sample < start + len(tensors[name]):
                found: np.ndarray = tensors[name][sample - start]
                return found
        return None


def _at(rows: pl.DataFrame, asked: Asked, eps: float | str | None, what: str) -> pl.DataFrame:
    if eps is None:
        return rows
    if not asked.eps:
        raise InputError(f"{what} finds its own distances: leave eps out")
    return rows.filter(pl.col("eps") == _matching(eps, list(asked.eps), what))


def _matching(eps: float | str, radii: list[float], what: str) -> float:
    top, _, bottom = str(eps).partition("/")
    try:
        value = float(top) / float(bottom or 1)
    except (ValueError, ZeroDivisionError) as error:
        raise InputError(f"{what}: eps {eps!r} is no radius, e.g. 0.1 or '8/255'") from error
    for radius in radii:
        if math.isclose(radius, value, rel_tol=1e-9):
            return radius
    there = ", ".join(map(eps_text, sorted(set(radii)))) or "none"
    raise InputError(f"{what}: not run at eps {eps}; its radii: {there}")


def _tensor_name(eps: float | None) -> str:
    return "min_norm" if eps is None else repr(eps)


def _floats(column: pl.Series) -> np.ndarray:
    return column.cast(pl.Float64).fill_null(float("nan")).to_numpy()


def _label(model: Model) -> str:
    return "/".join(str(n) for n in (model.model, model.training, model.seed) if n is not None)
