"""How somebody sounds in a chunk of speech: what a child tells, without the library that it takes to find out."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True, slots=True)
class Voice:
    """One speaker of a chunk."""

    seconds: float  # that nobody else speaks in
    sound: NDArray[np.float32]  # its embedding, of length 1; nothing but zeros when it speaks too little
