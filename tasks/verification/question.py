"""What is asked about each sample: what its outputs must not reach, and from which inputs.

A sample is `misclassified` where its own image is one of these inputs and the network gives it
another class than its label, whatever the property: nothing robust can be said of a wrong answer.
Where the answer is right and yet inside the unsafe region, as its margin is too small, the image
itself is the counterexample. A box that does not hold the sample's image says nothing about it.
"""

import math
from collections.abc import Mapping
from typing import Any, NamedTuple

import torch
from torch import Tensor

from robsweep.tasks.ball import box, inside, pull_inside
from robsweep.tasks.errors import InputError
from robsweep.tasks.job import Measurement, Setting
from robsweep.tasks.logits import raw_logits
from robsweep.tasks.verification.bounds.intervals import Bounds
from robsweep.tasks.verification.reading.properties import Property, margin, targeted, untargeted
from robsweep.tasks.verification.regions.area import Area
from robsweep.tasks.verification.regions.asked import Regions, arrays_of, regions_of
from robsweep.tasks.verification.search.counterexamples import (
    Checked,
    Region,
    Subject,
    around,
    at_boundary,
    checked,
)
from robsweep.tasks.verification.verdicts import Row


class Posed(NamedTuple):
    """The question about N samples, in the forms that attack, bounds and solver take."""

    images: Tensor  # float32 (N, ...) in [0, 1]
    labels: Tensor  # int64 (N,)
    unsafe: Property
    box: Bounds  # float64 (N, ...): for which inputs it is asked
    region: Region  # the float32 images in there; the search starts at the sample's own, if it is
    holds_image: Tensor  # (N,) bool
    eps: float | None  # of the ball, where it is one
    norm: str = "linf"
    area: Area | None = None  # of one sample, of whose parameters all this is

    def rows(self, index: Tensor | list[int]) -> "Posed":
        where = torch.as_tensor(index, dtype=torch.int64, device=self.images.device)
        return Posed(
            self.images[where],
            self.labels[where],
            self.unsafe.rows(where),
            Bounds(*(end[where] for end in self.box)),
            self.region.rows(where),
            self.holds_image[where],
            self.eps,
            self.norm,
            self.area,
        )

    def pull_inside(self, points: Tensor) -> Tensor:
        """The nearest float32 images of the region."""
        if self.eps is not None:
            return pull_inside(self.images, points, self.norm, self.eps)
        return torch.clamp(points.float(), self.region.low, self.region.high)

    def checked(self, subject: Subject, adversarials: Tensor) -> list[Checked]:
        """Runs candidates through the network again; more than N are all of one sample."""
        within = _inside(self.box, adversarials)
        if self.eps is not None:
            images = self.images.expand_as(adversarials)
            within = inside(images, adversarials, self.norm, self.eps)
        alike = [0] * len(adversarials)
        unsafe = self.unsafe if len(adversarials) == len(self.images) else self.unsafe.rows(alike)
        found = checked(subject, adversarials, unsafe, within)
        if self.area is None or self.area.map is None:
            return found
        return [self._exactly(*pair) for pair in zip(adversarials, found, strict=True)]

    def image_of(self, found: Tensor) -> Tensor:
        """The float32 image of what was found (...): itself, or that of parameters."""
        return found if self.area is None else self.area.images(found[None])[0]

    def _exactly(self, found: Tensor, result: Checked) -> Checked:
        """A counterexample counts only if exact arithmetic, too, puts its image into the region."""
        assert self.area is not None
        if result.check != "ok" or self.area.contains(found, self.area.images(found[None])[0]):
            return result
        return result._replace(check="outside the region")


class Robustness(NamedTuple):
    """What must hold of every sample: by default that its label wins in the linf ball of eps."""

    eps: float | None
    margin: float = 0.0  # by how much the label must win
    targets: tuple[int, ...] = ()  # the classes that must not win; empty: all but the label
    radius: Tensor | None = None  # float64 (*shape), in units of eps; None: 1 everywhere
    box: Bounds | None = None  # float64, one for all (1, *shape) or one for each sample
    regions: Regions | None = None  # another region around each sample

    def part(self, start: int, stop: int) -> "Robustness":
        """What must hold of the samples [start, stop) of the split."""
        if self.regions is not None:
            return self._replace(regions=self.regions.part(start, stop))
        if self.box is None or len(self.box.lower) == 1:
            return self
        return self._replace(box=Bounds(*(end[start:stop] for end in self.box)))

    def of(self, images: Tensor, labels: Tensor, classes: int) -> Posed:
        """Poses the question about these samples, in a box around each.

        Args:
            images: Float32 (N, ...) in [0, 1].
            labels: Int64 (N,).
        """
        unsafe = self.unsafe(labels, classes)
        if self.box is None and self.radius is None:
            assert self.eps is not None
            everywhere = torch.ones_like(labels, dtype=torch.bool)
            ball = Bounds(*box(images, self.eps))
            region = around(images, self.eps)
            return Posed(images, labels, unsafe, ball, region, everywhere, self.eps)
        bounds = self._bounds(images)
        holds_image = _inside(bounds, images)
        region = region_of(bounds, images, holds_image)
        return Posed(images, labels, unsafe, bounds, region, holds_image, None)

    def unsafe(self, labels: Tensor, classes: int) -> Property:
        if self.targets:
            return _targeted(self.targets, labels, classes)
        return untargeted(labels, classes, self.margin)

    def _bounds(self, images: Tensor) -> Bounds:
        if self.box is not None:
            ends = (end.to(images.device).expand(images.shape) for end in self.box)
            return Bounds(*(end.contiguous() for end in ends))
        assert self.radius is not None
        assert self.eps is not None
        reach = self.eps * self.radius.to(images.device)
        x = images.double()
        return Bounds((x - reach).clamp(min=0), (x + reach).clamp(max=1))


def robustness_of(measurement: Measurement, setting: Setting) -> Robustness:
    """What a measurement asks for, of all samples of its split.

    Raises:
        InputError: A property or norm that these functions do not verify, or a file of a radius or
            box that is not the one that was planned.
    """
    params: Mapping[str, Any] = measurement.params
    norm = str(params["norm"])
    if str(params["property"]).split()[0] not in _PROPERTIES or norm not in ("linf", "l1", "l2"):
        raise InputError(
            f"verifier {params['verifier']!r} verifies 'targeted' or 'untargeted' in norm linf, l1 "
            f"or l2, not {params['property']!r} in {norm!r}"
        )
    asked = Robustness(
        float(params["eps"]) if isinstance(params["eps"], float | int) else None,
        float(params.get("margin", 0.0)),
        tuple(params.get("targets", ())),
    )
    if (regions := regions_of(measurement, setting)) is not None:
        return asked._replace(regions=regions)
    if (digest := params.get("box")) is not None:
        arrays, shape = arrays_of(setting.region_file, digest), measurement.model.shape
        ends = (arrays[name].reshape(-1, *shape) for name in Bounds._fields)
        return asked._replace(box=Bounds(*ends))
    if (digest := params.get("radius")) is not None:
        return asked._replace(radius=arrays_of(setting.region_file, digest)["radius"])
    return asked


class Clean(NamedTuple):
    """What the starting points alone have shown."""

    margins: list[float]  # at the starting points, in float64
    rows: dict[int, Row]  # position -> row of a sample that is decided
    counterexamples: dict[int, Tensor]  # position -> float32 image


def by_the_image(subject: Subject, posed: Posed) -> Clean:
    """Runs the network on each sample's image, and decides what that decides."""
    start, classes = posed.region.start, posed.unsafe.weight.shape[3]
    exact, deployed = raw_logits(subject.exact, start.double()), raw_logits(subject.model, start)
    margins = margin(posed.unsafe, exact)
    label = untargeted(posed.labels, classes)
    right = torch.stack([margin(label, exact), margin(label, deployed)])
    wrong = posed.holds_image & (right <= 0).any(0)
    nothing = torch.isposinf(posed.unsafe.bias).any(2).all(1)
    inside_it = posed.holds_image & (margins <= 0) & ~wrong
    found = Clean(margins.tolist(), {}, {})
    for i in wrong.nonzero()[:, 0].tolist():
        near, upper = at_boundary(*right[:, i].tolist()), _finite(margins[i])
        found.rows[i] = Row("misclassified", "clean", upper_bound=upper, boundary=near)
    for i in (nothing & ~wrong).nonzero()[:, 0].tolist():
        found.rows[i] = Row("verified", "no target", arithmetic="float32")
    places = inside_it.nonzero()[:, 0]
    results = posed.rows(places).checked(subject, start[places]) if len(places) else []
    for i, result in zip(places.tolist(), results, strict=True):
        if result.check == "ok":
            found.rows[i] = Row(
                "falsified",
                "clean",
                upper_bound=result.margin,
                boundary=result.boundary,
                counterexample_check="ok",
            )
            found.counterexamples[i] = start[i]
    return found


_PROPERTIES = ("untargeted", "targeted")


def _targeted(targets: tuple[int, ...], labels: Tensor, classes: int) -> Property:
    """The region of every sample; a target that is its label is none."""
    weight, bias = targeted(list(targets), classes, labels.device)
    own = torch.tensor(targets, device=labels.device)[None] == labels[:, None]
    bias = torch.where(own[:, :, None], torch.inf, bias)
    return Property(weight.expand(len(labels), -1, -1, -1).contiguous(), bias)


def region_of(bounds: Bounds, images: Tensor, holds_image: Tensor) -> Region:
    """The float32 images of a box, from the sample's own on, or from the middle."""
    low, high = bounds.lower.float(), bounds.upper.float()
    up, down = torch.full_like(low, torch.inf), torch.full_like(high, -torch.inf)
    low = torch.where(low.double() < bounds.lower, torch.nextafter(low, up), low)
    high = torch.where(high.double() > bounds.upper, torch.nextafter(high, down), high)
    own = holds_image.reshape(-1, *[1] * (images.ndim - 1))
    start = torch.where(own, images, ((low + high) / 2).clamp(low, high))
    return Region(start, low, high, torch.maximum(start - low, high - start))


def _inside(bounds: Bounds, points: Tensor) -> Tensor:
    x = points.double()
    return ((x >= bounds.lower) & (x <= bounds.upper)).flatten(1).all(1)


def _finite(value: Tensor) -> float | None:
    return value.item() if math.isfinite(value) else None
