"""The sensitivity job: how large the output boxes of a model are."""

import torch

from robsweep.tasks.groups import groups
from robsweep.tasks.job import Inputs, Job, Output
from robsweep.tasks.load import data_for, device_of, model_of
from robsweep.tasks.rows import table
from robsweep.tasks.sensitivity.measure import log_volume, mean_width, network_box
from robsweep.tasks.verification.reading.torch.module import read


def sensitivity(job: Job, inputs: Inputs) -> Output:
    """One `sensitivity` row per sample and eps.

    Params: method, eps (list), group_size, seed (nothing is drawn), parameters (none yet).

    Raises:
        InputError: The model cannot be read as a network.
    """
    m = job.measurement
    radii: list[float] = m.params["eps"]
    loaded, device = model_of(job, inputs), device_of(job.setting)
    samples = range(job.start, job.stop)
    data = data_for(m.model, m.dataset, m.split, job.setting, samples)
    network = read(loaded.model, m.model.shape)
    volumes, widths = [], []
    for group in groups(job.start, job.stop, m.params["group_size"], len(data.labels)):
        images = data.images[group.start : group.stop].to(device)
        boxes = [network_box(network, images, eps, m.params["method"]) for eps in radii]
        volumes.append(torch.stack([log_volume(box) for box in boxes], dim=1).cpu())
        widths.append(torch.stack([mean_width(box) for box in boxes], dim=1).cpu())
    columns = {
        "method": m.params["method"],
        "eps": radii * len(samples),
        "log_volume": torch.cat(volumes).flatten().numpy(),
        "mean_width": torch.cat(widths).flatten().numpy(),
    }
    keys, by_sample = job.keys(loaded.weights_sha256), [i for i in samples for _ in radii]
    return Output({"sensitivity": table("sensitivity", keys, by_sample, columns)})
