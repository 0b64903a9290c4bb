"""What the pipeline's `export` stage made, for its report."""

from dataclasses import dataclass
from pathlib import Path

from posedistill.data.store.arrow import ValStore
from posedistill.evaluation.calibration import Calibration
from posedistill.evaluation.predict import Poses
from posedistill.export.certificate import Row
from posedistill.export.parity import Parity
from posedistill.models.rtmpose import RTMPose


@dataclass(frozen=True)
class Exported:
    """The file and its comparison with the model; pairs are (PyTorch, onnxruntime).

    `ap`: part → AP in [0, 1], −1 where no person counts. `poses`: the predicted persons, one row per box.
    """

    path: Path
    file_bytes: int
    model: RTMPose
    store: ValStore
    parity: Parity
    ap: dict[str, tuple[float, float]]
    poses: tuple[Poses, Poses]
    parameters: int
    macs: int
    calibration: Calibration | None  # None: the validation set has too few labelled points
    certificate: tuple[Row, ...]  # fp32, fp16, int8

    @property
    def persons(self) -> int:
        return len(self.poses[0].score)

    @property
    def ap_difference(self) -> float:
        return max(abs(ours - theirs) for ours, theirs in self.ap.values())
