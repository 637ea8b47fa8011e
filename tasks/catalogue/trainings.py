"""Trainings by name, and the recipe that they share. Torch-free."""

from dataclasses import replace

from robsweep.tasks.catalogue.entries import Entry, Parameters

# What all trainings share: the fields of tasks/training/recipe.py, which says what they are.
RECIPE: Parameters = {
    "epochs": 10, "batch_size": 128, "optimizer": "adam", "lr": 1e-3, "lr_decay": 1.0,
    "schedule": "exponential", "warmup_epochs": 0, "momentum": 0.9, "weight_decay": 0.0,
    "clip_norm": 0.0, "ema": 0.0, "label_smoothing": 0.0, "patience": 0, "train_samples": 0,
    "validation_samples": 0,
    "rotation": 0.0, "shift": 0.0, "mixup": 0.0, "cutmix": 0.0, "pixmix": 0,
    "added": 0.0, "added_noise": 0.0, "precision": "float32", "compile": False,
}
_FIT = RECIPE

TRAININGS: dict[str, Entry] = {
    "standard": Entry(".training.losses.standard:standard", _FIT, "cross entropy"),
    "noise": Entry(
        ".training.losses.noise:noise", {**_FIT, "std": 0.1},
        "Gaussian noise augmentation, Ford et al. 2019, section 4",
    ),
    "fgsm": Entry(
        ".training.losses.adversarial:fgsm",
        {**_FIT, "eps": float, "rel_step_size": 1.25, "adversarial_weight": (1.0,)},
        "adversarial training with random-start FGSM, Wong et al. 2020, algorithm 3",
    ),
    "pgd": Entry(
        ".training.losses.adversarial:pgd",
        {
            **_FIT, "eps": float, "steps": 7, "rel_step_size": 0.25,
            "adversarial_weight": (1.0,),
        },
        "adversarial training with PGD, Madry et al. 2018, section 2",
    ),
    "trades": Entry(
        ".training.losses.adversarial:trades",
        {**_FIT, "eps": float, "steps": 10, "rel_step_size": 0.25, "beta": 6.0},
        "Zhang et al. 2019, section 3",
    ),
    "jacobian": Entry(
        ".training.losses.penalties:jacobian", {**_FIT, "weight": 0.01, "projections": 1},
        "Jacobian penalty, Hoffman et al. 2019, section 2",
    ),
    "input_gradient": Entry(
        ".training.losses.penalties:input_gradient", {**_FIT, "weight": 1.0},
        "input-gradient penalty, Ross & Doshi-Velez 2018, section 3",
    ),
    "sensitivity": Entry(
        ".training.losses.sensitivity:sensitivity",
        {
            **_FIT, "eps": float, "weight": 0.1, "method": "interval", "measure": "log_volume",
            "ramp_epochs": 1,
        },
        "small output boxes, after arXiv 1810.11726",
    ),
    "certified": Entry(
        ".training.losses.certified:certified",
        {**_FIT, "eps": float, "method": "interval", "kappa": 0.5, "ramp_epochs": 2},
        "IBP, Gowal et al. 2018, and CROWN-IBP, Zhang et al. 2020",
    ),
    "outlier_exposure": Entry(
        ".training.losses.outlier_exposure:outlier_exposure",
        {**_FIT, "outliers": str, "outlier_split": "train", "coefficient": 0.5},
        "Hendrycks et al. 2019, section 3",
    ),
    "vae": Entry(
        ".training.losses.vae:vae",
        {**_FIT, "epochs": 50, "kl_start": 10.0, "kl_end": 1.0, "kl_epochs": 50},
        "for abs and binary_abs; Schott et al. 2019, section 4",
    ),
}

# part of every training since the recipe has it
RECIPE_LATER = frozenset({"train_samples"})
TRAININGS = {
    name: replace(entry, later=entry.later | RECIPE_LATER) for name, entry in TRAININGS.items()
}
