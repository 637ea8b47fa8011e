"""What jobs need from the store: weights, and rows of other measurements."""

from collections import OrderedDict
from collections.abc import Callable, Iterator

import pyarrow as pa
import pyarrow.compute as pc

from robsweep.orchestrator.errors import StoreError
from robsweep.orchestrator.identity import MADE_HERE
from robsweep.orchestrator.plan.plan import Plan
from robsweep.orchestrator.plan.weights import read as read_weights
from robsweep.orchestrator.results.check import trained_weights
from robsweep.orchestrator.run.open_rows import OpenRows
from robsweep.orchestrator.store.log import Snapshot
from robsweep.orchestrator.store.parts import read_part, within
from robsweep.orchestrator.store.store import Store, digest
from robsweep.tasks.catalogue import FITS
from robsweep.tasks.job import Inputs, Job, ModelRef

_CACHED_WEIGHTS = 64
_CACHED_BYTES = 2**29  # of rows


class InputReader:
    """Reads inputs for the jobs of a plan; weights are cached, as many jobs share them."""

    def __init__(self, plan: Plan, store: Store | None, snapshot: Snapshot | None) -> None:
        self._plan, self._store, self._snapshot = plan, store, snapshot
        self._weights: OrderedDict[str, bytes] = OrderedDict()
        self._tables: OrderedDict[tuple[str, ...], pa.Table] = OrderedDict()

    def of(self, job: Job) -> Inputs:
        """Inputs of a job whose needs are complete."""
        m = job.measurement
        if m.kind == "train":
            start = m.params.get("start")
            return Inputs(None if start is None else self._kept(start))
        if m.kind == "ensemble":
            return Inputs(members=tuple(map(self._weights_of, job.setting.members)))
        rows = None
        if m.kind == "calibrate":
            rows = self._rows("predictions", self._plan.measurements[m.measurement_id].needs[-1])
        members = tuple(map(self._weights_of, job.setting.members))
        if m.kind in {"score", "fit"}:
            return self._of_scores(job)
        fit = m.params.get("detector_fit")
        kept = None if fit is None else self._fit(fit)
        return Inputs(self._weights_of(m.model), rows, members, kept)

    def _of_scores(self, job: Job) -> Inputs:
        """Rows and fit of what it needs; weights where the model is run, or its last layer read."""
        m = job.measurement
        rows, fit, weights = None, None, None
        for need in self._plan.measurements[m.measurement_id].needs:
            kind = self._plan.measurements[need].measurement.kind
            if kind == "fit":
                fit = self._fit(need)
            elif table := {"predict": "predictions", "features": "features"}.get(kind):
                start, stop = m.params["samples"] if m.kind == "fit" else (job.start, job.stop)
                rows = within(self._rows_of(table, need), ((start, stop),))
        if rows is None or (m.kind == "fit" and FITS[m.params["fit"]].head != "none"):
            weights = self._weights_of(m.model)
        return Inputs(weights, rows, fit=fit)

    def part(self, path: str) -> pa.Table:
        """Rows of one part."""
        assert self._store is not None
        return read_part(self._store.files, path)

    def verification_rows(self, plan: Plan) -> Iterator[pa.Table]:
        """All verification rows of the plan's models, whichever sweep made them."""
        models = {p.measurement.model.model_id for p in plan.measurements.values()}
        if self._store is None or self._snapshot is None:
            return
        for part in self._snapshot.parts("verification"):
            rows = read_part(self._store.files, part.path)
            yield rows.filter(pc.is_in(rows["model_id"], pa.array(sorted(models))))

    def _rows(self, table: str, measurement_id: str) -> pa.Table:
        rows = self._rows_of(table, measurement_id)
        return within(rows, self._plan.measurements[measurement_id].wanted)

    def _rows_of(self, table: str, measurement_id: str) -> pa.Table:
        """All rows of a measurement by sample; the last few are kept, as many jobs share them."""
        assert self._store is not None
        assert self._snapshot is not None
        parts = [p for p in self._snapshot.parts(table) if measurement_id in p.covers]
        key = (measurement_id, *(part.path for part in parts))
        if key not in self._tables:
            pieces = []
            for part in parts:
                rows = read_part(self._store.files, part.path)
                pieces.append(rows.filter(pc.equal(rows["measurement_id"], measurement_id)))
            self._tables[key] = pa.concat_tables(pieces).sort_by("sample")
            while len(self._tables) > 1 and self._kept_bytes() > _CACHED_BYTES:
                self._tables.popitem(last=False)
        self._tables.move_to_end(key)
        return self._tables[key]

    def _kept_bytes(self) -> int:
        return sum(table.nbytes for table in self._tables.values())

    def _fit(self, measurement_id: str) -> bytes:
        """Tensors of a fit, as its row names them."""
        assert self._store is not None
        content = self._store.files.read(f"artifacts/fits/{measurement_id}.safetensors")
        known = self._rows_of("fits", measurement_id)["artifact_sha256"].to_pylist()
        if digest(content) not in known:
            raise StoreError(
                f"artifacts/fits/{measurement_id}.safetensors is not what was fitted: "
                "restore it from a backup"
            )
        return content

    def _verify(self, model_id: str, content: bytes) -> None:
        assert self._store is not None
        assert self._snapshot is not None
        digests = trained_weights(self._store, self._snapshot, model_id).get(model_id, set())
        if digest(content) not in digests:
            raise StoreError(
                f"artifacts/models/{model_id}.safetensors is not what was trained: "
                "restore it from a backup"
            )

    def _weights_of(self, ref: ModelRef) -> bytes | None:
        if ref.weights is None:
            return self._kept(ref.model_id) if ref.model_id.startswith(MADE_HERE) else None
        return self._cached(ref.model_id, lambda: read_weights(ref))

    def _kept(self, model_id: str) -> bytes:
        """Weights of a model that was trained or assembled here."""

        def read() -> bytes:
            assert self._store is not None
            content = self._store.weights(model_id)
            self._verify(model_id, content)
            return content

        return self._cached(model_id, read)

    def _cached(self, model_id: str, read: Callable[[], bytes]) -> bytes:
        if model_id not in self._weights:
            self._weights[model_id] = read()
            if len(self._weights) > _CACHED_WEIGHTS:
                self._weights.popitem(last=False)
        self._weights.move_to_end(model_id)
        return self._weights[model_id]


def past_rows(
    plan: Plan, store: Store | None, snapshot: Snapshot, retry: frozenset[str] = frozenset()
) -> OpenRows:
    """What the verification rows of a store leave open of a plan."""
    open_rows = OpenRows(plan, retry)
    for rows in InputReader(plan, store, snapshot).verification_rows(plan):
        open_rows.add(rows, past=True)
    return open_rows
