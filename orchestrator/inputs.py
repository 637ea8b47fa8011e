"""What jobs need from the store: weights, and rows of other measurements."""

from collections import OrderedDict
from collections.abc import Iterator

import pyarrow as pa
import pyarrow.compute as pc

from orchestrator.check import trained_weights
from orchestrator.errors import StoreError
from orchestrator.imported import read as read_weights
from orchestrator.log import Snapshot
from orchestrator.parts import read_part, within
from orchestrator.plan import Plan
from orchestrator.store import Store, digest
from tasks.job import Inputs, Job

_CACHED_WEIGHTS = 64


class InputReader:
    """Reads inputs for the jobs of a plan; weights are cached, as many jobs share them."""

    def __init__(self, plan: Plan, store: Store | None, snapshot: Snapshot | None) -> None:
        self._plan, self._store, self._snapshot = plan, store, snapshot
        self._weights: OrderedDict[str, bytes] = OrderedDict()

    def of(self, job: Job) -> Inputs:
        """Inputs of a job whose needs are complete."""
        m = job.measurement
        if m.kind == "train":
            return Inputs()
        rows = None
        if m.kind == "calibrate":
            rows = self._rows("predictions", self._plan.measurements[m.measurement_id].needs[-1])
        return Inputs(self._model_weights(job), rows)

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
        assert self._store is not None
        assert self._snapshot is not None
        pieces = []
        for part in self._snapshot.parts(table):
            if measurement_id in part.covers:
                rows = read_part(self._store.files, part.path)
                pieces.append(rows.filter(pc.equal(rows["measurement_id"], measurement_id)))
        rows = pa.concat_tables(pieces).sort_by("sample")
        return within(rows, self._plan.measurements[measurement_id].wanted)

    def _verify(self, model_id: str, content: bytes) -> None:
        assert self._store is not None
        assert self._snapshot is not None
        digests = trained_weights(self._store, self._snapshot, model_id).get(model_id, set())
        if digest(content) not in digests:
            raise StoreError(
                f"artifacts/models/{model_id}.safetensors is not what was trained: "
                "restore it from a backup"
            )

    def _model_weights(self, job: Job) -> bytes | None:
        ref = job.measurement.model
        if ref.model_id in self._weights:
            self._weights.move_to_end(ref.model_id)
            return self._weights[ref.model_id]
        if ref.weights is not None:
            content = read_weights(ref)
        elif ref.model_id.startswith("train-"):
            assert self._store is not None
            content = self._store.weights(ref.model_id)
            self._verify(ref.model_id, content)
        else:
            return None
        self._weights[ref.model_id] = content
        if len(self._weights) > _CACHED_WEIGHTS:
            self._weights.popitem(last=False)
        return content
