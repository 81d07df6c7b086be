"""The audio that a live session may have to send again: bounded, addressed by absolute index."""

from __future__ import annotations

from collections import deque


class Ring:
    """Audio from index `start` to `end`. An index counts units (samples; for webm bytes) of `unit` bytes.

    Kept in blocks of `block` units, which are also the frames that are sent: each is made once and only whole ones are
    forgotten. Holds at most `capacity` units, if the caller drops before it appends.
    """

    def __init__(self, unit: int, block: int, capacity: int) -> None:
        self.unit = unit
        self.block = block
        self.capacity = max(capacity, 2 * block)
        self.start = 0
        self.end = 0
        self._blocks: deque[bytes] = deque()
        self._tail = bytearray()

    @property
    def whole_end(self) -> int:
        """The index after the last whole block."""
        return self.start + len(self._blocks) * self.block

    def fits(self, units: int) -> bool:
        return self.end - self.start + units <= self.capacity

    def append(self, audio: bytes | memoryview) -> None:
        self._tail += audio
        self.end += len(audio) // self.unit
        size = self.block * self.unit
        while len(self._tail) >= size:
            self._blocks.append(bytes(self._tail[:size]))
            del self._tail[:size]

    def read(self, at: int, until: int) -> bytes:
        """From `at` (start <= at < until <= end) to `until`, or to the end of its block if that comes first."""
        number, offset = divmod(at - self.start, self.block)
        last = min(until - self.start - number * self.block, self.block)
        piece = self._blocks[number] if number < len(self._blocks) else self._tail
        return bytes(piece[offset * self.unit : last * self.unit])

    def forget(self, before: int) -> None:
        """Whole blocks that end at or before that index."""
        while self._blocks and self.start + self.block <= before:
            self.drop_oldest()

    def drop_oldest(self) -> bool:
        """One whole block; False when there is none."""
        if not self._blocks:
            return False
        self._blocks.popleft()
        self.start += self.block
        return True
