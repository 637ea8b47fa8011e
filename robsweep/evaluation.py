"""One live model: attacked, calibrated and verified by the jobs and metrics of sweeps."""

from collections.abc import Iterable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from robsweep import live
from robsweep.evaluated import Evaluation, evaluation_of
from robsweep.inline import measured
from robsweep.orchestrator.errors import InputError
from robsweep.orchestrator.plan.plan import Places, Plan, plan
from robsweep.orchestrator.spec import one_model, yaml_file
from robsweep.orchestrator.spec.data_warnings import of_arrays
from robsweep.orchestrator.spec.spec import DatasetSpec, ModelSpec, SweepSpec
from robsweep.orchestrator.spec.sweep_file import from_document
from robsweep.orchestrator.spec.yaml_file import did_you_mean
from robsweep.running import undisturbed
from robsweep.tasks.catalogue import ATTACKS, VERIFIERS
from robsweep.tasks.catalogue.values import NORMS
from robsweep.tasks.job import Inputs, Job, Live, ModelRef

if TYPE_CHECKING:
    import torch
    from torch import Tensor, nn

    Array = Any  # a tensor, a numpy array, or what numpy makes one of
    Samples = tuple[Tensor, Tensor]

_ARCH = "live"
_VERIFIER = "milp"
_ENOUGH = 10  # samples per class, from where on a class without one is no chance


def evaluate(
    model: "nn.Module",
    images: "Array",
    labels: "Array",
    *,
    norm: str = "linf",
    eps: float | str | Iterable[float | str] = (0.1,),
    attacks: str | Iterable[str] | Mapping[str, Mapping[str, Any]] | None = None,
    verify: int = 0,
    time_limit_seconds: float = 60.0,
    calibration: bool = True,
    validation: "tuple[Array, Array] | None" = None,
    device: "str | torch.device" = "auto",
    threads: int = 1,
) -> Evaluation:
    """Attacks, calibrates and verifies a live model on samples in memory.

    What `robsweep eval` does with the same model, samples and options, it does with the same jobs,
    and the numbers are the same. Nothing is written; progress is on stderr, as that of sweeps. The
    model is borrowed, neither copied as a whole nor pickled, and is afterwards as it was. So are
    the global random generators.

    Args:
        model: From images (N, ...) in [0, 1] to logits float32 (N, K); normalisation is inside.
        images: Floats in [0, 1], (N, C, H, W), (N, D), or (N, H, W), which the model gets as
            (N, 1, H, W).
        labels: Integers (N,), from 0 to K - 1.
        norm: linf, l2, l1 or l0.
        eps: Radius or radii; pixels are 0 to 1, and "8/255" is allowed.
        attacks: Names of the catalogue, or entries as in a sweep file by names of your own, e.g.
            `{"long": {"attack": "LinfPGD", "steps": 200}}`; radii are `eps` where an entry has
            none. None: those of `robsweep eval`, for linf and l2. Empty: none.
        verify: How many of the first samples to verify at each radius; not in l0.
        time_limit_seconds: Of each verified sample and radius.
        calibration: Whether to fit a temperature on `validation`, where that is given. The ECE of
            the clean predictions is always there.
        validation: Further images and labels, which nothing else is measured on.
        device: `auto` is where the model is.
        threads: Of a job on a CPU; another number than 1 may change last bits.

    Raises:
        InputError: The model, the samples or an option is wrong; the model is to be verified and
            cannot be read as layers.
        ContradictionError: A sample is proved robust and yet broken: a proof or an attack is wrong.
        Exception: What the first job raises, if all of them raise. A job that does so while others
            give rows is in `failures`, and metrics say what they are without.
    """
    if norm not in NORMS:
        raise InputError(f"norm={norm!r}{did_you_mean(norm, NORMS)}")
    if verify and norm not in (norms := VERIFIERS[_VERIFIER].norms):
        raise InputError(f"verify={verify} needs a norm of {', '.join(norms)}, got {norm!r}")
    splits = {"test": live.samples_of("images, labels", images, labels)}
    if validation is not None:
        splits["validation"] = live.samples_of("validation", *validation)
    if splits.get("validation", splits["test"])[0].shape[1:] != splits["test"][0].shape[1:]:
        raise InputError("validation: its images have another shape than those to evaluate on")
    if not 0 <= verify <= len(splits["test"][0]):
        raise InputError(f"verify={verify}: there are {len(splits['test'][0])} samples")
    radii = list(eps) if isinstance(eps, Iterable) and not isinstance(eps, str) else [eps]
    body: dict[str, Any] = {"name": "evaluate", "attacks": _entries(attacks, norm, radii)}
    if calibration and validation is not None:
        body["calibration"] = {"temperature": None}
    if verify:
        body["verification"] = {
            norm: {
                "verifier": _VERIFIER,
                "norm": norm,
                "eps": radii,
                "samples": verify,
                "time_limit_seconds": time_limit_seconds,
            }
        }
    place = live.device_for(model, device)
    with undisturbed(), live.borrowed(model, place):
        sha256 = live.weights_sha256(model)
        spec = _spec(body, model, sha256, splits, live.classes_of(model, _on(place, splits)))
        setting = {"live": Live(model, sha256, splits), "device": str(place), "threads": threads}
        planned = _for(plan(spec, Places(Path())), setting)
        warnings = _check(planned, model, verify)
        found = measured(planned)
    return evaluation_of(norm, planned, found, warnings, _data_warnings(splits, spec.dataset))


def _data_warnings(splits: "Mapping[str, Samples]", dataset: DatasetSpec) -> list[str]:
    """Validation first, since what is fitted there should not be measured on it."""
    named = {name: splits[name] for name in ("validation", "test") if name in splits}
    images = {name: x.numpy() for name, (x, _) in named.items()}
    labels = {name: y.numpy() for name, (_, y) in named.items()}
    many = sum(map(len, labels.values())) >= _ENOUGH * dataset.classes
    found = of_arrays(images, labels if many else {}, dataset.shape, dataset.classes)
    return [f"images, labels: {text}" for text in found]


def _on(place: Any, splits: "Mapping[str, Samples]") -> "Tensor":
    return splits["test"][0][:2].to(place, copy=True)


def _entries(
    attacks: str | Iterable[str] | Mapping[str, Mapping[str, Any]] | None,
    norm: str,
    radii: list[float | str],
) -> dict[str, dict[str, Any]]:
    """The section `attacks` of a sweep file."""
    if attacks is None:
        if norm not in one_model.ATTACKS:
            raise InputError(f"norm={norm!r} has no attacks by default: name some by attacks=")
        attacks = one_model.ATTACKS[norm]
    elif isinstance(attacks, str):
        attacks = [attacks]
    named = attacks if isinstance(attacks, Mapping) else {name: {} for name in attacks}
    entries = {}
    for name, given in named.items():
        entry = {"attack": name, **(given or {})}
        called = entry["attack"]
        known = ATTACKS.get(called)
        gives = entry.get("gives", "fixed_eps") if known is None else known.gives
        if gives == "fixed_eps":
            entry.setdefault("eps", radii)
        if known is None or norm in known.norms:
            entry.setdefault("norm", norm)
        # a name of ours, as a user's own has a colon, which is no name of an entry
        entries[name.replace(":", "_").replace(".", "_")] = entry
    return entries


def _spec(
    body: dict[str, Any],
    model: "nn.Module",
    weights_sha256: str,
    splits: "dict[str, Samples]",
    classes: int,
) -> SweepSpec:
    dataset = DatasetSpec(
        name=f"live:{live.data_sha256(splits)[:16]}",
        splits={name: len(labels) for name, (_, labels) in splits.items()},
        shape=tuple(splits["test"][0].shape[1:]),
        classes=classes,
    )
    described = {"class": type(model).__qualname__, "weights": weights_sha256}
    only = ModelSpec(name=_ARCH, train=False, parameters=described)
    document = yaml_file.from_mapping(body, "evaluate")
    return from_document(document, Path.cwd(), dataset=dataset, models={"model": only})


def _for(planned: Plan, setting: dict[str, Any]) -> Plan:
    """A plan whose jobs run here, on what is in memory."""

    def here(one: Any) -> Any:
        return replace(one, setting=replace(one.setting, keep_adversarials=False, **setting))

    return replace(
        planned,
        measurements={key: here(one) for key, one in planned.measurements.items()},
        preflights=tuple(here(one) for one in planned.preflights),
    )


def _check(planned: Plan, model: "nn.Module", verify: int) -> list[str]:
    """The preflight of a sweep, and what it warns of; whether the model can be verified, if asked.

    Raises:
        InputError: The model cannot be attacked, or is to be verified and cannot be.
    """
    from robsweep.tasks.jobs import run

    warnings: dict[str, None] = {}

    for one in planned.preflights:
        params = {k: v for k, v in one.measurement.params.items() if k != "engines"}
        output = run(Job(replace(one.measurement, params=params), 0, 1, one.setting), Inputs())
        warnings.update(dict.fromkeys(output.warnings))
        if verify:
            _check_readable(model, one.measurement.model, verify)
    return [*warnings]


def _check_readable(model: "nn.Module", ref: ModelRef, verify: int) -> None:
    from robsweep.tasks.verification.optimise.solver import solver_named
    from robsweep.tasks.verification.search.counterexamples import subject_of

    try:
        subject_of(model, ref.shape)
    except Exception as error:
        reason = str(error) if isinstance(error, InputError) else f"{type(error).__name__}: {error}"
        raise InputError(
            f"verify={verify}: the model cannot be verified: {reason}; with verify=0 it is "
            "attacked and calibrated all the same"
        ) from error
    solver_named("scip")
