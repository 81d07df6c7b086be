"""Whose voices are one: those of all chunks of a recording, joined by how they sound.

Agglomerative: again and again the two groups whose middles are most alike become one, until no two are alike enough or
as few are left as were asked for. What speaks less than a second is known too badly to found a group of its own.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Sound = NDArray[np.float32]  # of length 1, or nothing but zeros
_FOUNDS_S = 1.0  # seconds of speech without anybody else's
_GROUPS_MAX = 400  # then the likest become one, to half of it: memory and time do not grow with the recording


@dataclass(slots=True)
class _Group:
    total: NDArray[np.float64]  # of its sounds, each weighted by its seconds
    members: list[int]


class Joining:
    """Of one recording."""

    def __init__(self, threshold: float) -> None:
        """`threshold`: the cosine distance from which two voices are two."""
        self._alike = 1 - threshold
        self._groups: list[_Group] = []
        self._short: list[_Group] = []
        self._count = 0

    def add(self, sound: Sound, seconds: float) -> int:
        """The next voice; returns its number, from 0."""
        number = self._count
        self._count += 1
        if sound.any():
            group = _Group(sound.astype(np.float64) * max(seconds, 0.01), [number])
            (self._groups if seconds >= _FOUNDS_S else self._short).append(group)
        if len(self._groups) > _GROUPS_MAX:
            self._groups = _joined(self._groups, alike=2.0, most=_GROUPS_MAX // 2)
        return number

    def speakers(self, num_speakers: int, most: int) -> list[int | None]:
        """The speaker of each voice, by its number: any numbers, the same for the same speaker; None: nobody knows.

        `num_speakers`: how many there are (never more than there are voices), or 0: then at most `most`."""
        founding = self._groups or self._short
        if num_speakers:
            groups = _joined(founding, alike=2.0, most=num_speakers)
        else:
            groups = _joined(founding, alike=self._alike, most=most)
        told: list[int | None] = [None] * self._count
        for speaker, group in enumerate(groups):
            for number in group.members:
                told[number] = speaker
        if self._groups:
            middles = np.stack([_unit(group.total) for group in groups])
            for group in self._short:
                told[group.members[0]] = int((middles @ _unit(group.total)).argmax())
        return told


def _joined(groups: list[_Group], *, alike: float, most: int) -> list[_Group]:
    """New groups: at most `most`, and no two of them with a cosine of `alike` or more. Of equals the first join."""
    groups = [_Group(group.total, list(group.members)) for group in groups]
    if len(groups) < 2:
        return groups
    middles = np.stack([_unit(group.total) for group in groups])
    cosines = middles @ middles.T
    np.fill_diagonal(cosines, -np.inf)
    left = len(groups)
    while left > 1:
        one, other = sorted(divmod(int(cosines.argmax()), len(groups)))
        if left <= most and cosines[one, other] < alike:
            break
        groups[one].total = groups[one].total + groups[other].total
        groups[one].members += groups[other].members
        groups[other].members = []
        middles[one] = _unit(groups[one].total)
        gone = [at for at, group in enumerate(groups) if not group.members]
        row = middles @ middles[one]
        row[[one, *gone]] = -np.inf
        cosines[one, :] = cosines[:, one] = row
        cosines[other, :] = cosines[:, other] = -np.inf
        left -= 1
    return [group for group in groups if group.members]


def _unit(total: NDArray[np.float64]) -> NDArray[np.float64]:
    return total / max(float(np.linalg.norm(total)), 1e-9)
