"""A user's own functions and models, called so that they change nothing but what they return."""

import random
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import wraps
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor, nn

from robsweep.tasks.catalogue.code.resolve import is_ours, resolve
from robsweep.tasks.groups import seed_everything


def function_of(path: str, what: str) -> Callable[..., Any]:
    """The catalogue's function behind a path; a user's own as `harmless` makes it.

    Raises:
        InputError: As `resolve`.
    """
    function = resolve(path, what)
    return function if is_ours(path) else harmless(function)


def harmless(function: Callable[..., Any]) -> Callable[..., Any]:
    """The same function, given copies of what it may write to.

    Models that it is given, and torch's global modes, are afterwards as they were before.
    """

    @wraps(function)
    def called(*args: Any, **kwargs: Any) -> Any:
        models = [value for value in (*args, *kwargs.values()) if isinstance(value, nn.Module)]
        kept = [State.of(model) for model in models]
        try:
            with modes_kept():
                return function(*copied(args), **copied(kwargs))
        finally:
            for state in kept:
                state.restore()

    return called


def copied(value: Any) -> Any:
    """A copy of tensors, arrays and what holds them in lists and the like; the rest as it is."""
    if isinstance(value, Tensor):
        return value.clone()
    if isinstance(value, np.ndarray):
        return value.copy()
    if isinstance(value, tuple) and hasattr(value, "_fields"):
        return type(value)(*map(copied, value))
    if isinstance(value, list | tuple):
        return type(value)(map(copied, value))
    if isinstance(value, dict):
        return {key: copied(one) for key, one in value.items()}
    return value


class State(NamedTuple):
    """What a model holds: tensors, flags and hooks of each of its modules."""

    tensors: list["_Kept"]
    modules: list[tuple[nn.Module, bool, dict[str, dict[Any, Any]]]]

    @classmethod
    def of(cls, model: nn.Module) -> "State":
        tensors = [*model.parameters(), *model.buffers()]
        return cls(
            [_Kept(t, t.data, t.detach().clone(), t.requires_grad) for t in tensors],
            [(m, m.training, _inner(m)) for m in model.modules()],
        )

    def restore(self) -> None:
        for module, training, inner in self.modules:
            module.training = training
            for name, held in inner.items():
                now = vars(module).setdefault(name, {})
                if [*now] != [*held] or any(now[key] is not held[key] for key in now):
                    now.clear()
                    now.update(held)
        for kept in self.tensors:
            kept.restore()


class _Kept(NamedTuple):
    """A tensor of a model, with what it was: where it lay, what was there, its flag."""

    tensor: Tensor
    data: Tensor  # the memory that it lay in, which others may share
    content: Tensor  # a copy
    requires_grad: bool

    def restore(self) -> None:
        storage, size = self.data.untyped_storage(), self.content.untyped_storage().nbytes()
        if storage.nbytes() == 0 < size:  # freed
            storage.resize_(size)
        if not torch.equal(self.data, self.content):
            with torch.inference_mode(mode=self.data.is_inference()):
                self.data.copy_(self.content)
        if not _same_place(self.tensor, self.data):
            self.tensor.data = self.data
        if self.tensor.requires_grad != self.requires_grad:
            self.tensor.detach_().requires_grad_(self.requires_grad)
        if not self.requires_grad:
            self.tensor.grad = None


def _inner(module: nn.Module) -> dict[str, dict[Any, Any]]:
    """The dictionaries that make a module: its parameters, buffers, modules and hooks."""
    return {
        name: {**value}
        for name, value in vars(module).items()
        if name.startswith("_") and isinstance(value, dict)
    }


def _same_place(tensor: Tensor, data: Tensor) -> bool:
    return (
        tensor.device == data.device
        and tensor.data_ptr() == data.data_ptr()
        and tensor.shape == data.shape
        and tensor.dtype == data.dtype
        and tensor.stride() == data.stride()
    )


def guard(model: nn.Module) -> nn.Module:
    """Makes a user's own model harmless to call: it is given copies, and leaves torch's modes."""
    if isinstance(model, torch.jit.ScriptModule):  # takes no hooks
        return model
    modes: list[_Modes] = []

    def before(_: nn.Module, args: Any) -> Any:
        if not torch.compiler.is_compiling():
            modes.append(_Modes.now())
        return tuple(one.clone() if isinstance(one, Tensor) else one for one in args)

    def behind(_: nn.Module, __: Any, ___: Any) -> None:
        if modes and not torch.compiler.is_compiling():
            modes.pop().restore()

    model.register_forward_pre_hook(before)
    model.register_forward_hook(behind, always_call=True)
    return model


class _Modes(NamedTuple):
    """Torch's global modes, those that cost next to nothing to look at."""

    gradients: bool
    dtype: torch.dtype
    threads: int
    deterministic: int
    precision: str

    @classmethod
    def now(cls) -> "_Modes":
        return cls(
            torch.is_grad_enabled(),
            torch.get_default_dtype(),
            torch.get_num_threads(),
            torch.get_deterministic_debug_mode(),
            torch.get_float32_matmul_precision(),
        )

    def restore(self) -> None:
        now = _Modes.now()
        if now == self:
            return
        torch.set_grad_enabled(self.gradients)
        torch.set_default_dtype(self.dtype)
        torch.set_deterministic_debug_mode(self.deterministic)
        torch.set_float32_matmul_precision(self.precision)
        if now.threads != self.threads:
            torch.set_num_threads(self.threads)


class _Settings(NamedTuple):
    """The others, and numpy's."""

    device: torch.device
    anomaly: tuple[bool, bool]
    cudnn: tuple[bool, bool, bool, bool]
    numpy: Any
    hooks: dict[str, dict[Any, Any]]  # of all modules

    @classmethod
    def now(cls) -> "_Settings":
        cudnn = torch.backends.cudnn
        return cls(
            torch.get_default_device(),
            (torch.is_anomaly_enabled(), torch.is_anomaly_check_nan_enabled()),
            (cudnn.enabled, cudnn.benchmark, cudnn.deterministic, cudnn.allow_tf32),
            np.geterr(),
            {name: dict(held) for name, held in _global_hooks().items()},
        )

    def restore(self) -> None:
        now = _Settings.now()
        if now == self:
            return
        if now.device != self.device:
            torch.set_default_device(None if self.device.type == "cpu" else self.device)
        torch.autograd.set_detect_anomaly(*self.anomaly)
        cudnn = torch.backends.cudnn
        cudnn.enabled, cudnn.benchmark, cudnn.deterministic, cudnn.allow_tf32 = self.cudnn
        np.seterr(**self.numpy)
        for name, hooks in _global_hooks().items():
            hooks.clear()
            hooks.update(self.hooks[name])


def _global_hooks() -> dict[str, dict[Any, Any]]:
    module = vars(torch.nn.modules.module)
    return {n: v for n, v in module.items() if n.startswith("_global_") and isinstance(v, dict)}


@contextmanager
def modes_kept() -> Iterator[None]:
    """Torch's global modes are afterwards as they were before."""
    before, settings = _Modes.now(), _Settings.now()
    try:
        yield
    finally:
        before.restore()
        settings.restore()


@contextmanager
def all_kept() -> Iterator[None]:
    """The modes, and the global random generators too."""
    states = torch.get_rng_state(), np.random.get_state(), random.getstate()
    cuda = torch.cuda.get_rng_state_all() if torch.cuda.is_initialized() else None  # type: ignore[no-untyped-call]
    try:
        with modes_kept():
            yield
    finally:
        torch.set_rng_state(states[0])
        np.random.set_state(states[1])
        random.setstate(states[2])
        if cuda is not None:
            torch.cuda.set_rng_state_all(cuda)


@contextmanager
def importing() -> Iterator[None]:
    """What a user's modules are imported in: what they draw is the same in each process."""
    with all_kept():
        seed_everything(0, "import", 0)
        yield
