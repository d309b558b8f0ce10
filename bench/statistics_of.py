"""Medians, ranges and ratios of paired rounds."""

from statistics import median


def spread(values: list[float]) -> tuple[float, float, float] | None:
    """Least, median and greatest."""
    return (min(values), median(values), max(values)) if values else None


def windows(seconds: list[float], tokens: int, least: float) -> list[float]:
    """Tokens a second of every stretch of consecutive runs that is just `least` seconds long; each run has `tokens`."""
    speeds = []
    for first in range(len(seconds)):
        taken = 0.0
        for count, one in enumerate(seconds[first:], 1):
            taken += one
            if taken >= least:
                speeds.append(count * tokens / taken)
                break
    return speeds


def ratios(ours: list[float], theirs: list[float], less_is_better: bool = False) -> list[float]:
    """How many times better we are, round by round; a round that one of the two lacks has no ratio."""
    pairs = [(a, b) for a, b in zip(ours, theirs) if a > 0 and b > 0]
    return [b / a if less_is_better else a / b for a, b in pairs]
