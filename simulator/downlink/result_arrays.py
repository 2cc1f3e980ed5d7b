"""Convert a precoding result from tensors to the arrays of the result schema."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import numpy as np
import numpy.typing as npt
from torch import Tensor

from matlab_io.result import RESULT_ARRAYS, RESULT_NAMES
from simulator.downlink.precoding import Precoding

_FIELDS = {entry.name: entry.field for entry in RESULT_ARRAYS}


def result_arrays(
    answer: Precoding, good: npt.NDArray[np.bool_] | None = None, names: Iterable[str] = RESULT_NAMES
) -> dict[str, npt.NDArray[Any]]:
    """An answer under the names of the result file; where ``good`` is false NaN and false are put in."""
    whole = good is None or bool(good.all())

    def place(values: Tensor) -> npt.NDArray[Any]:
        computed = values.cpu().numpy()
        if good is None or whole:
            return computed
        blank = False if computed.dtype == np.bool_ else np.nan
        placed = np.full((len(good), *computed.shape[1:]), blank, computed.dtype)
        placed[good] = computed
        return placed

    return {name: place(getattr(answer, _FIELDS[name])) for name in names}
