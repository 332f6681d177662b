"""How fast this machine computes KV and how fast it reads it, measured on the requests themselves."""

from __future__ import annotations

from dataclasses import dataclass

WEIGHT = 0.3  # of the newest measurement
PREFILL, READ = 2000.0, 1e9  # until measured
LEAST_TOKENS = 32  # fewer say nothing about the rate of prefilling


@dataclass
class Rates:
    """Moving averages; None until first measured. prefill: tokens per second. read: bytes per second."""

    prefill: float | None = None
    read: float | None = None

    def prefilled(self, tokens: int, seconds: float) -> None:
        if tokens >= LEAST_TOKENS and seconds > 0:
            self.prefill = _average(self.prefill, tokens / seconds)

    def has_read(self, size: int, seconds: float) -> None:
        if size and seconds > 0:
            self.read = _average(self.read, size / seconds)

    def saves(self, tokens: int, size: int | None) -> float:
        """Seconds that KV of so many tokens saves when it is in RAM. size: bytes in a file that it could be read from instead; None: none."""
        computing = tokens / (self.prefill or PREFILL)
        return computing if size is None else min(computing, size / (self.read or READ))

    def worth_reading(self, tokens: int, size: int) -> bool:
        """Whether reading `size` bytes of KV is quicker than computing it for so many tokens. What is not known yet is tried."""
        if self.prefill is None or self.read is None:
            return True
        return size / self.read < tokens / self.prefill


def _average(before: float | None, now: float) -> float:
    return now if before is None else (1 - WEIGHT) * before + WEIGHT * now
