"""A training that is killed and goes on ends with the weights of one that was not."""

import errno
from collections.abc import Callable
from pathlib import Path
from typing import Any, BinaryIO, NoReturn

import pytest
import torch
from torch import nn

from robsweep.tasks.data.load import Labelled, load
from robsweep.tasks.errors import RobsweepError
from robsweep.tasks.models import weights
from robsweep.tasks.training.checkpoints import Checkpoints
from robsweep.tasks.training.fit import Batch, Epoch, Loss, cross_entropy, fit
from robsweep.tasks.training.losses.adversarial import pgd
from robsweep.tasks.training.recipe import Recipe
from tests.tasks.trainings import setup_of

RECIPE = Recipe(
    epochs=3, batch_size=100, lr=0.01, ema=0.95, patience=2, rotation=10.0, added=0.3,
    added_noise=0.1, optimizer="adamw", schedule="cosine", warmup_epochs=1,
)  # fmt: skip


class KilledError(Exception):
    pass


def net() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(
        nn.Conv2d(1, 4, 3), nn.BatchNorm2d(4), nn.ReLU(), nn.Dropout(0.3),
        nn.Flatten(), nn.Linear(144, 10),
    )  # fmt: skip


def digits() -> tuple[Labelled, Labelled]:
    train, validation = load("digits", "train", ""), load("digits", "validation", "")
    return Labelled(train.images[:400], train.labels[:400]), validation


def train(checkpoints: Checkpoints, kill_at: int = -1) -> tuple[nn.Module, list[Epoch]]:
    model, steps = net(), 0
    data, validation = digits()
    loss = pgd(setup_of(model, data), eps=0.1, steps=2, adversarial_weight=(0.0, 0.5))

    def watched(model: nn.Module, batch: Batch) -> Loss:
        nonlocal steps
        steps += 1
        if steps == kill_at:
            raise KilledError
        return loss(model, batch)

    torch.manual_seed(1)
    return model, fit(model, data, validation, watched, RECIPE, seed=3, checkpoints=checkpoints)


def digest(model: nn.Module) -> str:
    return weights.sha256(weights.to_bytes(model.state_dict()))


@pytest.mark.parametrize("kill_at", [1, 4, 6, 7, 13, 18])  # six steps an epoch
def test_a_killed_training_ends_with_the_same_weights(kill_at: int, tmp_path: Path) -> None:
    undisturbed, history = train(Checkpoints())
    path = tmp_path / "deep" / "train-0.pt"
    with pytest.raises(KilledError):
        train(Checkpoints(path, 0.0), kill_at)  # a checkpoint after every step
    torch.rand(7)
    resumed, again = train(Checkpoints(path, 1e9))
    assert digest(resumed) == digest(undisturbed)
    assert [epoch._replace(seconds=0.0) for epoch in again] == [
        epoch._replace(seconds=0.0) for epoch in history
    ]


def test_only_what_is_left_is_trained(tmp_path: Path) -> None:
    path = tmp_path / "train-0.pt"
    with pytest.raises(KilledError):
        train(Checkpoints(path, 0.0), 14)
    with pytest.raises(KilledError):
        train(Checkpoints(path, 1e9), 5)  # 13 of 18 lie behind: the fifth is the last
    train(Checkpoints(path, 1e9), 6)


def test_a_damaged_checkpoint_is_as_none(tmp_path: Path) -> None:
    path = tmp_path / "train-0.pt"
    with pytest.raises(KilledError):
        train(Checkpoints(path, 0.0), 9)
    path.write_bytes(path.read_bytes()[:1000])
    assert digest(train(Checkpoints(path, 1e9))[0]) == digest(train(Checkpoints())[0])


def full_after(size: int) -> Callable[..., Any]:
    """`Path.open` on a disk with so many bytes left."""
    opened = Path.open

    def open_(path: Path, mode: str = "r", *rest: Any) -> Any:
        file: BinaryIO = opened(path, mode, *rest)  # type: ignore[assignment]
        if mode != "wb":
            return file

        class Full:
            def __enter__(self) -> "Full":
                return self

            def __exit__(self, *_: object) -> None:
                file.close()

            def write(self, content: memoryview) -> NoReturn:
                file.write(content[:size])
                raise OSError(errno.ENOSPC, "No space left on device")

        return Full()

    return open_


def test_a_full_disk_is_said_and_loses_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "train-0.pt"
    with pytest.raises(KilledError):
        train(Checkpoints(path, 0.0), 9)
    kept = path.read_bytes()
    with monkeypatch.context() as patch:
        patch.setattr(Path, "open", full_after(100))
        with pytest.raises(RobsweepError, match=r"No space left .* the one before it stays"):
            train(Checkpoints(path, 0.0))
    assert path.read_bytes() == kept
    assert list(tmp_path.iterdir()) == [path]
    assert digest(train(Checkpoints(path, 1e9))[0]) == digest(train(Checkpoints())[0])


def test_a_training_that_diverges_keeps_the_last_good_checkpoint(tmp_path: Path) -> None:
    path = tmp_path / "train-0.pt"
    data, validation = digits()

    def broken(model: nn.Module, batch: Batch) -> Loss:
        value, logits, terms = cross_entropy(model, batch)
        return Loss(value / (0 if batch.progress >= 0.5 else 1), logits, terms)

    model, recipe = net(), Recipe(epochs=2, batch_size=100)
    with pytest.raises(FloatingPointError, match="epoch 2, step 1 of 4"):
        fit(model, data, validation, broken, recipe, checkpoints=Checkpoints(path, 0.0))
    state = Checkpoints(path).load()
    assert state is not None
    assert (state["epoch"], state["step"]) == (2, 0)
    assert all(value.isfinite().all() for value in state["model"].values())


def test_reading_a_checkpoint_does_not_change_it(tmp_path: Path) -> None:
    path = tmp_path / "train-0.pt"
    Checkpoints(path).save({"step": 3})
    torch.manual_seed(5)
    drawn = torch.rand(3)
    torch.manual_seed(5)
    Checkpoints(path).save({"step": 3})
    before = path.read_bytes()
    torch.manual_seed(99)
    state = Checkpoints(path).load()
    assert state is not None
    assert state["step"] == 3
    assert torch.equal(torch.rand(3), drawn)
    assert path.read_bytes() == before
