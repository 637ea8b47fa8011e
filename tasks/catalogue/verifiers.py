"""Verifiers, sensitivities and landscapes by name. Torch-free."""

from robsweep.tasks.catalogue.entries import Entry, Question, Verifier
from robsweep.tasks.catalogue.values import STAGES

VERIFIERS: dict[str, Verifier] = {
    "milp": Verifier(
        ".verification.screen:screen",
        ".verification.solve:solve",
        ("linf", "l2", "l1"),
        {
            "stages": STAGES, "attack_steps": 20, "attack_restarts": 2,
            "again_steps": 50, "again_restarts": 10,
        },
        {"stages": STAGES, "solver": "scip", "tightening": "none", "solver_parameters": {}},
        "Tjeng et al. 2019",
        questions={
            "worst": Question(
                ".verification.questions.worst:screen", ".verification.questions.worst:solve",
                ("linf",), "the smallest margin in the region; Tjeng et al. 2019, section 4.1",
            ),
            "closest": Question(
                ".verification.questions.closest:screen", ".verification.questions.closest:solve",
                ("linf", "l1", "l2"),
                "the distance of the nearest adversarial; Tjeng et al. 2019, section 4.1",
            ),
            "curve": Question(
                ".verification.questions.curve:screen", ".verification.questions.curve:solve",
                ("linf",), "verdicts at rising radii, by bisection",
            ),
        },
        cross_check="mipverify",
    ),
    "mipverify": Verifier(
        ".verification.mipverify:screen", ".verification.mipverify:solve", ("linf", "l1"), {},
        {"bounds": "lp", "solver": "highs", "solver_parameters": {"threads": 1}},
        "intervals, LP bounds, one MILP, and nothing else, as MIPVerify; Tjeng et al. 2019",
        cross_check="milp",
    ),
    "abs_bound": Verifier(
        ".verification.abs_bound:screen", None, ("l2",), {"steps": 50}, {},
        "estimate of the nearest adversarial of abs, no proof; Schott et al. 2019, section 4",
        frozenset({"analysis by synthesis"}),
    ),
}

SENSITIVITIES: dict[str, Entry] = {
    "interval": Entry(
        ".sensitivity.measure:output_box", {}, "interval bounds, Gowal et al. 2018, section 3"
    ),
    "crown": Entry(
        ".sensitivity.measure:output_box", {}, "linear bounds, Zhang et al. 2018, section 3"
    ),
}

LANDSCAPES: dict[str, Entry] = {
    "basin_hopping": Entry(
        ".landscape.basin_hopping:basin_hopping",
        {"steps": 50, "temperature": 0.01, "step_size": 10.0, "max_iterations": 20_000},
        "Wales & Doye 1997; over weights as in arXiv 1810.11726",
    ),
}
