"""The text that Prometheus reads: what all processes of this host counted, and what the caller measured just now."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import NamedTuple

from prometheus_client import CollectorRegistry
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily
from prometheus_client.exposition import choose_encoder
from prometheus_client.metrics_core import Metric as Family

from shared.cells import SPILLED, Name, Read, read_all
from shared.metrics import BOUNDS_S, PER_SECOND, Metric

#: Of these an ended process's numbers are kept; of gauges they end with it.
KEPT = frozenset(name for name, metric in Metric.ALL.items() if metric.kind != "gauge") | {SPILLED[0]}
LATEST = frozenset(name for name, metric in Metric.ALL.items() if metric.kind == "latest")
Values = Mapping[Name, int]


class Measured(NamedTuple):
    """A gauge that is measured when somebody asks, with a value for each label's value ("" where there is none)."""

    name: str
    help: str
    label: str
    values: Mapping[str, float]


class Counted(NamedTuple):
    """What all processes say: each living one, and the sums over these and the ended ones."""

    living: list[Read]
    sums: Values


def counted(folder: Path) -> Counted:
    """Return what the processes that share a folder say. Raises `OSError`."""
    living, left = read_all(folder, KEPT, LATEST)
    sums: dict[Name, int] = defaultdict(int, left)
    for read in living:
        for name, value in read.values.items():
            sums[name] = max(sums[name], value) if name[0] in LATEST else sums[name] + value
    return Counted(living, sums)


def value_of(sums: Values, metric: Metric, *labels: str) -> float:
    """Return one metric's value; of a histogram the whole count. Nothing counted is 0."""
    if metric.kind != "histogram":
        return sums.get((metric.name, "", *labels), 0) / metric.scale
    return sum(value for name, value in sums.items() if name[0] == metric.name and name[1] != "sum")


def by_label(sums: Values, metric: Metric) -> dict[str, float]:
    """Return the values of a metric with one label."""
    return {name[2]: value / metric.scale for name, value in sums.items() if name[0] == metric.name}


def quantile_of(sums: Values, metric: Metric, share: float, *labels: str) -> float | None:
    """Return the bound below which that share of a histogram's durations lies; None without any, or beyond all."""
    buckets = [sums.get((metric.name, str(number), *labels), 0) for number in range(len(BOUNDS_S) + 1)]
    wanted, seen = share * sum(buckets), 0
    for bound, count in zip(BOUNDS_S, buckets, strict=False):
        seen += count
        if wanted and seen >= wanted:
            return bound
    return None


class _Collector:
    def __init__(self, told: Counted, measured: Iterable[Measured]) -> None:
        self._told, self._measured = told, measured

    def collect(self) -> Iterator[Family]:
        by_metric: dict[str, dict[Name, int]] = defaultdict(dict)
        for name, value in self._told.sums.items():
            by_metric[name[0]][name] = value
        for metric in Metric.ALL.values():
            yield _family(metric, by_metric[metric.name])
        yield _spilled(by_metric[SPILLED[0]])
        yield _processes(self._told.living)
        for gauge in self._measured:
            yield _measured(gauge)


def _family(metric: Metric, values: Values) -> Family:
    if metric.kind == "histogram":
        return _histogram(metric, values)
    kind = CounterMetricFamily if metric.kind == "counter" else GaugeMetricFamily
    family = kind(metric.name, metric.help, labels=metric.labels)
    there = {(metric.name, "", *known): 0 for known in metric.known} | dict(values)
    for name, value in sorted(there.items()):
        family.add_metric(list(name[2:]), value / metric.scale)
    return family


def _histogram(metric: Metric, values: Values) -> Family:
    family = HistogramMetricFamily(metric.name, metric.help, labels=metric.labels)
    for labels in sorted({name[2:] for name in values}):
        seen, buckets = 0, []
        for number, bound in enumerate((*BOUNDS_S, float("inf"))):
            seen += values.get((metric.name, str(number), *labels), 0)
            buckets.append(("+Inf" if bound == float("inf") else str(bound), float(seen)))
        total = values.get((metric.name, "sum", *labels), 0) / PER_SECOND
        family.add_metric(list(labels), buckets, total)
    return family


def _spilled(values: Values) -> Family:
    family = CounterMetricFamily(SPILLED[0], "Counts that found no cell of their own: more labels than were foreseen")
    family.add_metric([], sum(values.values()))
    return family


def _processes(living: Iterable[Read]) -> Family:
    family = GaugeMetricFamily("carillon_processes", "Processes that count", labels=["part"])
    parts: dict[str, int] = defaultdict(int)
    for read in living:
        parts[read.part] += 1
    for part, count in sorted(parts.items()):
        family.add_metric([part], count)
    return family


def _measured(gauge: Measured) -> Family:
    family = GaugeMetricFamily(gauge.name, gauge.help, labels=[gauge.label] if gauge.label else [])
    for label, value in gauge.values.items():
        family.add_metric([label] if gauge.label else [], value)
    return family


def render(told: Counted, measured: Iterable[Measured], accept: str) -> tuple[bytes, str]:
    """Return the exposition in the form that `accept` asks for, and its content type."""
    registry = CollectorRegistry(auto_describe=False)
    registry.register(_Collector(told, list(measured)))
    encode, content_type = choose_encoder(accept)
    return encode(registry), content_type
