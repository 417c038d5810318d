"""Parameters of the evaluation, read by evaluate."""

from dataclasses import dataclass

from digitsum.core.params import whole


@dataclass(frozen=True)
class Evaluate:
    """Bins of the calibration error, and size of the sheet of mistakes."""

    calibration_bins: int = whole(at_least=2, at_most=1000)  # then a bin has 10 test images
    mistakes_shown: int = whole(at_least=1, at_most=100)
