"""What the values of parameters may be, by the parameter's name, in every family. Torch-free."""

from collections.abc import Sequence

NORMS = ("linf", "l2", "l1", "l0")

# Properties of verification rows.
PLAIN = "untargeted"  # of the bracket: the label wins in the whole ball
DISTANCE = "untargeted distance"  # how far away the nearest adversarial is, as an estimate

# Questions for a number, as the end of a property; what they prove is about robustness too.
NUMBERS = ("worst", "closest")
CLOSEST = f"{PLAIN} closest"

# Of verification, in their order; each can be left out.
STAGES = ("attack", "interval", "crown", "alpha", "splitting", "branching", "milp")
# Ids of measurements name all stages by what these were before `splitting` came, so that those of
# sweeps that leave none out are what they were.
_ALL = frozenset(STAGES) - {"splitting"}
_WITHOUT = "no splitting"



def stages_in_ids(stages: Sequence[str]) -> list[str]:
    """How a measurement's parameters name its stages."""
    if set(stages) == {*STAGES}:
        return [stage for stage in stages if stage in _ALL]
    return [*stages, _WITHOUT] if set(stages) == _ALL else [*stages]


def stages_of_ids(named: Sequence[str]) -> frozenset[str]:
    """The other way round."""
    stages = frozenset(named)
    return frozenset(STAGES) if stages == _ALL else stages - {_WITHOUT}


_INF = float("inf")
_TINY = 1e-12  # "above zero"

# What parameters of these names may be, in every family.
RANGES: dict[str, tuple[float, float]] = {
    "epochs": (1, _INF),
    "batch_size": (1, _INF),
    "lr": (_TINY, _INF),
    "lr_decay": (_TINY, 1),
    "weight_decay": (0, _INF),
    "std": (0, _INF),
    "eps": (0, _INF),
    "steps": (1, _INF),
    "rel_step_size": (_TINY, _INF),
    "hidden": (1, _INF),
    "channels": (1, _INF),
    "blocks": (1, _INF),
    "width": (1, _INF),
    "dropout": (0, 1),
    "temperature": (_TINY, _INF),
    "candidates": (2, _INF),
    "overshoot": (0, _INF),
    "initial_gradient_eval_steps": (1, _INF),
    "max_gradient_eval_steps": (1, _INF),
    "step_size": (_TINY, _INF),
    "max_iterations": (1, _INF),
    "attack_steps": (0, _INF),
    "attack_restarts": (0, _INF),
    "again_steps": (0, _INF),
    "again_restarts": (0, _INF),
    "momentum": (0, 1),
    "clip_norm": (0, _INF),
    "ema": (0, 1),
    "label_smoothing": (0, 1),
    "patience": (0, _INF),
    "train_samples": (0, _INF),
    "validation_samples": (0, _INF),
    "warmup_epochs": (0, _INF),
    "rotation": (0, 180),
    "shift": (0, 1),
    "mixup": (0, _INF),
    "cutmix": (0, _INF),
    "pixmix": (0, _INF),
    "added": (0, _INF),
    "added_noise": (0, _INF),
    "adversarial_weight": (0, 1),
    "beta": (0, _INF),
    "weight": (0, _INF),
    "projections": (1, _INF),
    "coefficient": (0, _INF),
    "penalty": (0, _INF),
    "ramp_epochs": (0, _INF),
    "kl_epochs": (0, _INF),
    "kappa": (0, 1),
    "samples": (0, _INF),
    "alpha": (0, _INF),
    "eta": (0, _INF),
    "classes": (1, _INF),
    "queries": (1, _INF),
    "p_init": (_TINY, 1),
    "eot": (1, _INF),
    "kl_start": (0, _INF),
    "kl_end": (0, _INF),
    "top": (1, _INF),
    "k": (1, _INF),
    "dim": (0, _INF),
    "percentile": (0, 100),
    "prune": (0, 100),
    "fit_samples": (2, _INF),
    "kernel": (1, _INF),
    "size": (1, _INF),
    "brightness": (0, 1),
    "contrast": (0, 1),
}

# What texts of these names may be, in every family.
CHOICES: dict[str, tuple[str, ...]] = {
    "optimizer": ("adam", "adamw", "sgd"),
    "schedule": ("exponential", "cosine"),
    "precision": ("float32", "bfloat16"),
    "method": ("interval", "crown"),
    "measure": ("log_volume", "volume", "mean_width"),
    "activation": ("relu", "gelu", "tanh", "softplus", "elu"),
    "stages": STAGES,
    "solver": ("scip", "highs", "gurobi"),
    "bounds": ("lp", "interval"),
    "tightening": ("none", "lp", "mip"),
    "version": ("standard", "plus", "rand"),
    "how": ("selective", "orthogonal"),
    "loss": ("logits", "crossentropy"),
    "included_in": ("upper", "lower"),
    "step_size_search": ("geometric_progression", "grid_search"),
    "pool": ("mean", "none"),
    "vote": ("mean_logits", "mean_probabilities", "majority"),
}

# What a parameter that is a mapping must not hold, and why.
_LIMIT = "the time limit is time_limit_seconds"
REFUSED: dict[str, dict[str, str]] = {
    "solver_parameters": {
        "limits/primal": "SCIP aborts its process when it reaches this limit",
        "limits/dual": "SCIP aborts its process when it reaches this limit",
        "limits/time": _LIMIT,
        "time_limit": _LIMIT,
        "TimeLimit": _LIMIT,
    },
}

# Parts of the recipe that a training cannot go with, and why.
CONFLICTS: dict[str, dict[str, str]] = {
    "jacobian": {"compile": "compiled code has no gradients of gradients"},
    "input_gradient": {"compile": "compiled code has no gradients of gradients"},
    "sensitivity": {"compile": "it bounds the model layer by layer"},
    "certified": {
        "compile": "it bounds the model layer by layer",
        "mixup": "the worst case is of one label",
        "cutmix": "the worst case is of one label",
    },
    "vae": {
        "compile": "it trains the parts of the model",
        "mixup": "each autoencoder sees its own class",
        "cutmix": "each autoencoder sees its own class",
        "label_smoothing": "its loss has no labels",
    },
}

# Parameters that say something of each epoch, or of the first so many: they must fit the epochs.
SCHEDULES = ("adversarial_weight", "warmup_epochs", "ramp_epochs", "kl_epochs")
