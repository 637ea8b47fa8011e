"""Two processes that average gradients."""

from pathlib import Path

import pytest
import torch
from torch import distributed, multiprocessing, nn

from robsweep.tasks.training import workers


def one_of_two(rank: int, folder: str) -> None:
    distributed.init_process_group(
        "gloo", init_method=f"file://{folder}/meet", rank=rank, world_size=2
    )
    model = nn.ModuleDict(
        {"first": nn.Linear(2, 1), "second": nn.Linear(2, 1), "third": nn.Linear(2, 1)}
    )
    used = model["first" if rank == 0 else "second"]
    (used(torch.ones(1, 2)) * (rank + 1)).sum().backward()
    workers.average_gradients(model, 1 + 2 * rank, 4)  # shares of 1 and 3 samples
    assert model["first"].weight.grad.tolist() == [[0.25, 0.25]]
    assert model["second"].weight.grad.tolist() == [[1.5, 1.5]]
    assert model["third"].weight.grad is None
    distributed.destroy_process_group()


@pytest.mark.slow
def test_workers_whose_losses_use_other_parameters_still_agree(tmp_path: Path) -> None:
    multiprocessing.spawn(one_of_two, (str(tmp_path),), nprocs=2)


def test_shares_are_whole_batches_alone() -> None:
    assert workers.share(7) == slice(None)
    assert workers.count() == 1
