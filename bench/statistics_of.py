"""Medians, ranges and ratios of paired rounds."""

from statistics import median


def spread(values: list[float]) -> tuple[float, float, float] | None:
    """Least, median and greatest."""
    return (min(values), median(values), max(values)) if values else None


def ratios(ours: list[float], theirs: list[float], less_is_better: bool = False) -> list[float]:
    """How many times better we are, round by round; a round that one of the two lacks has no ratio."""
    pairs = [(a, b) for a, b in zip(ours, theirs) if a > 0 and b > 0]
    return [b / a if less_is_better else a / b for a, b in pairs]
