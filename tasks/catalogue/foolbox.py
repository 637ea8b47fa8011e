"""Foolbox's attacks by name. Torch-free.

Names are foolbox's without "Attack" and "Method", defaults are its own except where a comment
says so. Those that name all norms seek none in particular: the distance is measured in the one
asked for. 0 or () stands for foolbox's None. Foolbox counts l0 in numbers, we in pixels over all
channels.

In L2HopSkipJump and the Brendel-Bethge attacks the samples of a group influence each other: steps
are scaled by the whole batch. So they do with `step_size_search: grid_search`.
"""

from robsweep.tasks.catalogue.entries import Attack, Parameters

_ANY = ("l2", "linf", "l1", "l0")
_RAUBER = "Rauber et al. 2020, foolbox"

_ABS: Parameters = {"abs_step_size": 0.0}  # above 0 it takes precedence over rel_step_size
_ADAM: Parameters = {"adam_beta1": 0.9, "adam_beta2": 0.999, "adam_epsilon": 1e-8}
# foolbox steps by 0.025, in linf by 0.01 / 0.3: from a random start, that does not cross the ball
_PGD: Parameters = {"steps": 50, "rel_step_size": 0.1, "random_start": True, **_ABS}
_BIM: Parameters = {"steps": 10, "rel_step_size": 0.2, "random_start": False, **_ABS}
_START: Parameters = {"random_start": False}
_MIM: Parameters = {**_BIM, "momentum": 1.0}
_REPEATED: Parameters = {"repeats": 100, "check_trivial": True}
_DEEPFOOL: Parameters = {"steps": 50, "candidates": 10, "overshoot": 0.02, "loss": "logits"}
_FMN: Parameters = {"steps": 100, "max_step_size": 1.0, "min_step_size": 0.0, "gamma": 0.05}
_EAD: Parameters = {
    "binary_search_steps": 9, "steps": 10000, "initial_step_size": 1e-2, "confidence": 0.0,
    "initial_const": 1e-3, "regularization": 1e-2, "abort_early": True,
}
_BRENDEL_BETHGE: Parameters = {
    "overshoot": 1.1, "steps": 1000, "lr": 1e-3, "lr_decay": 0.5, "lr_num_decay": 20,
    "momentum": 0.8, "binary_search_steps": 10,
}
_LATER_STEP = frozenset(_ABS)

_MADRY, _KURAKIN, _DONG = "Madry et al. 2018", "Kurakin et al. 2017", "Dong et al. 2018"
_CLIPPING = "Rauber & Bethge 2020"
_PINTOR = "Pintor et al. 2021"
_BRENDEL = "Brendel et al. 2019; compiles for about a minute in each process"

_FIXED_EPS: dict[str, Attack] = {
    "LinfPGD": Attack(
        "foolbox.attacks:LinfProjectedGradientDescentAttack", ("linf",), "fixed_eps",
        {**_PGD, "steps": 40}, _MADRY, "white_box", "optional",
        later=_LATER_STEP,
    ),
    "L2PGD": Attack(
        "foolbox.attacks:L2ProjectedGradientDescentAttack", ("l2",), "fixed_eps",
        _PGD, _MADRY, "white_box", "optional", later=_LATER_STEP,
    ),
    "L1PGD": Attack(
        "foolbox.attacks:L1ProjectedGradientDescentAttack", ("l1",), "fixed_eps",
        _PGD, _MADRY, "white_box", "optional",
    ),
    "LinfAdamPGD": Attack(
        "foolbox.attacks:LinfAdamProjectedGradientDescentAttack", ("linf",), "fixed_eps",
        {**_PGD, **_ADAM}, f"{_MADRY}, with Adam", "white_box", "optional",
    ),
    "L2AdamPGD": Attack(
        "foolbox.attacks:L2AdamProjectedGradientDescentAttack", ("l2",), "fixed_eps",
        {**_PGD, **_ADAM}, f"{_MADRY}, with Adam", "white_box", "optional",
    ),
    "L1AdamPGD": Attack(
        "foolbox.attacks:L1AdamProjectedGradientDescentAttack", ("l1",), "fixed_eps",
        {**_PGD, **_ADAM}, f"{_MADRY}, with Adam", "white_box", "optional",
    ),
    "LinfBasicIterative": Attack(
        "foolbox.attacks:LinfBasicIterativeAttack", ("linf",), "fixed_eps",
        _BIM, _KURAKIN, "white_box", "optional", later=_LATER_STEP,
    ),
    "L2BasicIterative": Attack(
        "foolbox.attacks:L2BasicIterativeAttack", ("l2",), "fixed_eps",
        _BIM, _KURAKIN, "white_box", "optional", later=_LATER_STEP,
    ),
    "L1BasicIterative": Attack(
        "foolbox.attacks:L1BasicIterativeAttack", ("l1",), "fixed_eps",
        _BIM, _KURAKIN, "white_box", "optional",
    ),
    "LinfAdamBasicIterative": Attack(
        "foolbox.attacks:LinfAdamBasicIterativeAttack", ("linf",), "fixed_eps",
        {**_BIM, **_ADAM}, f"{_KURAKIN}, with Adam", "white_box", "optional",
    ),
    "L2AdamBasicIterative": Attack(
        "foolbox.attacks:L2AdamBasicIterativeAttack", ("l2",), "fixed_eps",
        {**_BIM, **_ADAM}, f"{_KURAKIN}, with Adam", "white_box", "optional",
    ),
    "L1AdamBasicIterative": Attack(
        "foolbox.attacks:L1AdamBasicIterativeAttack", ("l1",), "fixed_eps",
        {**_BIM, **_ADAM}, f"{_KURAKIN}, with Adam", "white_box", "optional",
    ),
    "LinfMomentumIterativeFastGradient": Attack(
        "foolbox.attacks:LinfMomentumIterativeFastGradientMethod", ("linf",), "fixed_eps",
        _MIM, _DONG, "white_box", "optional",
    ),
    "L2MomentumIterativeFastGradient": Attack(
        "foolbox.attacks:L2MomentumIterativeFastGradientMethod", ("l2",), "fixed_eps",
        _MIM, _DONG, "white_box", "optional",
    ),
    "L1MomentumIterativeFastGradient": Attack(
        "foolbox.attacks:L1MomentumIterativeFastGradientMethod", ("l1",), "fixed_eps",
        _MIM, _DONG, "white_box", "optional",
    ),
    "LinfFastGradient": Attack(
        "foolbox.attacks:LinfFastGradientAttack", ("linf",), "fixed_eps",
        _START, "Goodfellow et al. 2015", "white_box", iterative=False,
    ),
    "L2FastGradient": Attack(
        "foolbox.attacks:L2FastGradientAttack", ("l2",), "fixed_eps",
        _START, "Goodfellow et al. 2015", "white_box", iterative=False,
    ),
    "L1FastGradient": Attack(
        "foolbox.attacks:L1FastGradientAttack", ("l1",), "fixed_eps",
        _START, "Goodfellow et al. 2015", "white_box", iterative=False,
    ),
    "SparseL1Descent": Attack(
        "foolbox.attacks:SparseL1DescentAttack", ("l1",), "fixed_eps",
        {"quantile": 0.99, **_BIM}, "Tramer & Boneh 2019", "white_box", "optional",
    ),
    "VirtualAdversarial": Attack(
        "foolbox.attacks:VirtualAdversarialAttack", ("l2",), "fixed_eps",
        {"steps": int, "xi": 1e-6}, "Miyato et al. 2016", "white_box",
    ),
    "GenAttack": Attack(
        "foolbox.attacks:GenAttack", ("linf",), "fixed_eps",
        {
            "steps": 1000, "population": 10, "mutation_probability": 0.1, "mutation_range": 0.15,
            "sampling_temperature": 0.3, "reduced_dims": (),
        },
        "Alzantot et al. 2019", "black_box", "required",
    ),
    "L2ContrastReduction": Attack(
        "foolbox.attacks:L2ContrastReductionAttack", ("l2",), "fixed_eps",
        {"contrast_target": 0.5}, _RAUBER, "noise", iterative=False,
    ),
    "LinfAdditiveUniformNoise": Attack(
        "foolbox.attacks:LinfAdditiveUniformNoiseAttack", ("linf",), "fixed_eps",
        {}, _RAUBER, "noise", iterative=False,
    ),
    "L2AdditiveGaussianNoise": Attack(
        "foolbox.attacks:L2AdditiveGaussianNoiseAttack", ("l2",), "fixed_eps",
        {}, _RAUBER, "noise", iterative=False,
    ),
    "L2AdditiveUniformNoise": Attack(
        "foolbox.attacks:L2AdditiveUniformNoiseAttack", ("l2",), "fixed_eps",
        {}, _RAUBER, "noise", iterative=False,
    ),
    "L2ClippingAwareAdditiveGaussianNoise": Attack(
        "foolbox.attacks:L2ClippingAwareAdditiveGaussianNoiseAttack", ("l2",), "fixed_eps",
        {}, _CLIPPING, "noise", iterative=False,
    ),
    "L2ClippingAwareAdditiveUniformNoise": Attack(
        "foolbox.attacks:L2ClippingAwareAdditiveUniformNoiseAttack", ("l2",), "fixed_eps",
        {}, _CLIPPING, "noise", iterative=False,
    ),
    "LinfRepeatedAdditiveUniformNoise": Attack(
        "foolbox.attacks:LinfRepeatedAdditiveUniformNoiseAttack", ("linf",), "fixed_eps",
        _REPEATED, _RAUBER, "noise", "optional", iterative=False,
    ),
    "L2RepeatedAdditiveGaussianNoise": Attack(
        "foolbox.attacks:L2RepeatedAdditiveGaussianNoiseAttack", ("l2",), "fixed_eps",
        _REPEATED, _RAUBER, "noise", "optional", iterative=False,
    ),
    "L2RepeatedAdditiveUniformNoise": Attack(
        "foolbox.attacks:L2RepeatedAdditiveUniformNoiseAttack", ("l2",), "fixed_eps",
        _REPEATED, _RAUBER, "noise", "optional", iterative=False,
    ),
    "L2ClippingAwareRepeatedAdditiveGaussianNoise": Attack(
        "foolbox.attacks:L2ClippingAwareRepeatedAdditiveGaussianNoiseAttack", ("l2",), "fixed_eps",
        _REPEATED, _CLIPPING, "noise", "optional", iterative=False,
    ),
    "L2ClippingAwareRepeatedAdditiveUniformNoise": Attack(
        "foolbox.attacks:L2ClippingAwareRepeatedAdditiveUniformNoiseAttack", ("l2",), "fixed_eps",
        _REPEATED, _CLIPPING, "noise", "optional", iterative=False,
    ),
}

_GRADIENTS: dict[str, Attack] = {
    "L2DeepFool": Attack(
        "foolbox.attacks:L2DeepFoolAttack", ("l2",), "min_norm",
        _DEEPFOOL, "Moosavi-Dezfooli et al. 2016", "white_box", later=frozenset({"loss"}),
    ),
    "LinfDeepFool": Attack(
        "foolbox.attacks:LinfDeepFoolAttack", ("linf",), "min_norm",
        _DEEPFOOL, "Moosavi-Dezfooli et al. 2016", "white_box",
    ),
    "NewtonFool": Attack(
        "foolbox.attacks:NewtonFoolAttack", ("l2",), "min_norm",
        {"steps": 100, "step_size": 0.01}, "Jang et al. 2017", "white_box",
    ),
    "L2CarliniWagner": Attack(
        "foolbox.attacks:L2CarliniWagnerAttack", ("l2",), "min_norm",
        {
            "binary_search_steps": 9, "steps": 10000, "step_size": 1e-2, "confidence": 0.0,
            "initial_const": 1e-3, "abort_early": True,
        },
        "Carlini & Wagner 2017; up to 90,000 passes by default", "white_box", "optional",
    ),
    "EAD": Attack(
        "foolbox.attacks:EADAttack", ("l1", "l2"), "min_norm", _EAD,
        "Chen et al. 2018, elastic-net rule; up to 180,000 passes by default",
        "white_box", "optional", fixed={"decision_rule": "EN"},
    ),
    "L1EAD": Attack(
        "foolbox.attacks:EADAttack", ("l1",), "min_norm", _EAD,
        "Chen et al. 2018, l1 rule; up to 180,000 passes by default",
        "white_box", "optional", fixed={"decision_rule": "L1"},
    ),
    "DDN": Attack(
        "foolbox.attacks:DDNAttack", ("l2",), "min_norm",
        {"init_epsilon": 1.0, "steps": 100, "gamma": 0.05},
        "Rony et al. 2019", "white_box", "optional",
    ),
    "LInfFMN": Attack(
        "foolbox.attacks:LInfFMNAttack", ("linf",), "min_norm",
        _FMN, _PINTOR, "white_box", "optional",
    ),
    "L2FMN": Attack(
        "foolbox.attacks:L2FMNAttack", ("l2",), "min_norm",
        _FMN, f"{_PINTOR}, without its projection, which foolbox 3.3.4 leaves out",
        "white_box", "optional",
    ),
    "L1FMN": Attack(
        "foolbox.attacks:L1FMNAttack", ("l1",), "min_norm",
        _FMN, _PINTOR, "white_box", "optional",
    ),
    "L0FMN": Attack(
        "foolbox.attacks:L0FMNAttack", ("l0",), "min_norm",
        _FMN, _PINTOR, "white_box", "optional",
    ),
    "LinfinityBrendelBethge": Attack(
        "foolbox.attacks:LinfinityBrendelBethgeAttack", ("linf",), "min_norm",
        _BRENDEL_BETHGE, _BRENDEL, "white_box", "optional",
    ),
    "L2BrendelBethge": Attack(
        "foolbox.attacks:L2BrendelBethgeAttack", ("l2",), "min_norm",
        _BRENDEL_BETHGE, _BRENDEL, "white_box", "optional",
    ),
    "L1BrendelBethge": Attack(
        "foolbox.attacks:L1BrendelBethgeAttack", ("l1",), "min_norm",
        _BRENDEL_BETHGE, _BRENDEL, "white_box", "optional",
    ),
    "L0BrendelBethge": Attack(
        "foolbox.attacks:L0BrendelBethgeAttack", ("l0",), "min_norm",
        _BRENDEL_BETHGE, _BRENDEL, "white_box", "optional",
    ),
}

_DECISIONS: dict[str, Attack] = {
    "LinfHopSkipJump": Attack(  # fewer steps and queries than foolbox's own
        "foolbox.attacks:HopSkipJumpAttack", ("linf",), "min_norm",
        {
            "steps": 10, "initial_gradient_eval_steps": 50, "max_gradient_eval_steps": 200,
            "gamma": 1.0, "step_size_search": "geometric_progression",
        },
        "Chen et al. 2020", "black_box", "optional",
        fixed={"constraint": "linf"}, later=frozenset({"gamma", "step_size_search"}),
    ),
    "L2HopSkipJump": Attack(
        "foolbox.attacks:HopSkipJumpAttack", ("l2",), "min_norm",
        {
            "steps": 64, "initial_gradient_eval_steps": 100, "max_gradient_eval_steps": 10000,
            "gamma": 1.0, "step_size_search": "geometric_progression",
        },
        "Chen et al. 2020", "black_box", "optional", fixed={"constraint": "l2"},
    ),
    "L2Boundary": Attack(  # 1,000 steps, not foolbox's 25,000
        "foolbox.attacks:BoundaryAttack", ("l2",), "min_norm",
        {
            "steps": 1000, "spherical_step": 1e-2, "source_step": 1e-2,
            "source_step_convergence": 1e-7, "step_adaptation": 1.5, "update_stats_every_k": 10,
        },
        "Brendel et al. 2018", "black_box", "optional",
        later=frozenset({
            "spherical_step", "source_step", "source_step_convergence", "step_adaptation",
            "update_stats_every_k",
        }),
    ),
    "L0Pointwise": Attack(
        "foolbox.attacks:PointwiseAttack", ("l0",), "min_norm",
        {}, "Schott et al. 2019", "black_box", "optional", fixed={"l2_binary_search": False},
    ),
    "L2Pointwise": Attack(
        "foolbox.attacks:PointwiseAttack", ("l2",), "min_norm",
        {}, "Schott et al. 2019", "black_box", "optional", fixed={"l2_binary_search": True},
    ),
    "BinarizationRefinement": Attack(
        "foolbox.attacks:BinarizationRefinementAttack", _ANY, "min_norm",
        {"threshold": 0.5, "included_in": "upper"},
        f"{_RAUBER}; raises where the model does not binarise at this threshold",
        "black_box", "optional", iterative=False,
    ),
    "SaltAndPepperNoise": Attack(
        "foolbox.attacks:SaltAndPepperNoiseAttack", ("l2", "l0"), "min_norm",
        {"steps": 1000, "across_channels": True}, "Rauber et al. 2017", "black_box", "optional",
    ),
    "LinearSearchBlendedUniformNoise": Attack(
        "foolbox.attacks:LinearSearchBlendedUniformNoiseAttack", _ANY, "min_norm",
        {"directions": 1000, "steps": 1000}, _RAUBER, "black_box", "optional", iterative=False,
    ),
    "BinarySearchContrastReduction": Attack(
        "foolbox.attacks:BinarySearchContrastReductionAttack", _ANY, "min_norm",
        {"binary_search_steps": 15, "contrast_target": 0.5}, _RAUBER, "black_box", "optional",
    ),
    "LinearSearchContrastReduction": Attack(
        "foolbox.attacks:LinearSearchContrastReductionAttack", _ANY, "min_norm",
        {"steps": 1000, "contrast_target": 0.5}, _RAUBER, "black_box", "optional",
        iterative=False,
    ),
    "GaussianBlur": Attack(
        "foolbox.attacks:GaussianBlurAttack", _ANY, "min_norm",
        {"steps": 1000, "max_sigma": 0.0}, _RAUBER, "black_box", "optional", iterative=False,
    ),
    "Spatial": Attack(
        "foolbox.attacks:SpatialAttack", _ANY, "min_norm",
        {
            "max_translation": 3.0, "max_rotation": 30.0, "num_translations": 5,
            "num_rotations": 5, "grid_search": True, "random_steps": 100,
        },
        "Engstrom et al. 2019", "black_box", "optional", iterative=False,
    ),
    "Dataset": Attack(
        "foolbox.attacks:DatasetAttack", _ANY, "min_norm",
        {}, f"{_RAUBER}; draws from the images of the group", "black_box", "optional",
        iterative=False,
    ),
    "Inversion": Attack(
        "foolbox.attacks:InversionAttack", _ANY, "min_norm",
        {}, "Hosseini et al. 2017", "noise", iterative=False,
    ),
}

FOOLBOX: dict[str, Attack] = {**_FIXED_EPS, **_GRADIENTS, **_DECISIONS}
