"""What a million streams and a hundred million recipients take, worked out of what was measured.

Costs come from `bench/results/`; what is assumed of use, machines and prices stands in `Plan`. `python -m bench.model`
puts the tables into docs/scaling.md, where a test compares them with what this computes.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any

from bench import report
from bench.series import Series, short, shown
from bench.simulate import LINE, come_back, spread
from shared.settings import PROJECT_ROOT

DOCUMENT = PROJECT_ROOT / "docs" / "scaling.md"
MONTH_H = 730
DAY_S = 86_400
GB, GBIT = 1e9, 1e9 / 8
#: A Redis Cluster has three servers or more.
LEAST_CLUSTER = 3
#: A herd of this many stands for larger ones of which each edge gets as many: the queues are the same.
MOST_SIMULATED = 200_000


def _field(value: float, words: str) -> Any:
    return field(default=value, metadata={"words": words})


@dataclass(frozen=True, slots=True)
class Plan:
    """What is assumed: how it is used, on what machines, for what money. Prices are large providers', rounded."""

    recipients: float = _field(100e6, "recipients")
    streams: float = _field(1e6, "open streams at once")
    history: float = _field(100, "notifications in each inbox, the cap")
    personal_a_day: float = _field(5, "personal notifications for each recipient and day")
    peak: float = _field(3, "the busiest second's rate over the day's mean")
    announcement_s: float = _field(600, "seconds in which an announcement to all is to be told")
    announcements_a_month: float = _field(4, "announcements to all in a month")
    frame_bytes: float = _field(700, "bytes of a frame on the wire")
    edge_streams: float = _field(10_000, "streams of an edge process")
    busy: float = _field(0.5, "share of a core or a network that is planned to be busy")
    redis_gbit: float = _field(10, "Gbit/s of a Redis server's network")
    postgres_cores: float = _field(16, "cores of a PostgreSQL server")
    postgres_disk_gb: float = _field(2_000, "GB of disk of a PostgreSQL server, of which a half may be filled")
    core_month: float = _field(25, "$ for a core and month")
    memory_gb_month: float = _field(3.5, "$ for a GB of memory and month")
    disk_gb_month: float = _field(0.12, "$ for a GB of fast disk and month")
    inside_gb: float = _field(0.01, "$ for a GB between zones of the data centre")
    outside_gb: float = _field(0.05, "$ for a GB to clients")


class Costs:
    """The measured costs of one of each, in seconds, bytes and rows."""

    def __init__(self, results: Callable[[str], dict[str, Any]] = report.load) -> None:
        streams, recipients, rows, history = (
            _by_name(results(f"scaling-{part}")) for part in ("streams", "recipients", "rows", "history")
        )
        simulated = results("simulation")
        largest = streams["memory of the process"].points[-1]
        self.stream_bytes = streams["memory for each stream"].points[-1].median * 1024
        self.process_bytes = largest.median * 2**20 - largest.size * self.stream_bytes
        self.idle_s = streams["idle"].points[-1].median / 100 / largest.size
        self.told_s = streams["announcement, CPU for each stream"].points[-1].median / 1e6
        self.opening_s = streams["opening, CPU for each stream"].points[-1].median / 1e6
        self.foreign_s = streams["recipient of a chunk who is not here"].points[-1].median / 1e6
        announced = recipients["stored and published"].points[-1]
        self.announced_rows_s = announced.size / announced.median
        self.announced_cpu_s = recipients["CPU of the whole product"].points[-1].median / announced.size
        self.wal_bytes = recipients["WAL"].points[-1].median * 2**20 / announced.size
        stored = rows["stored, index included"].points[-1]
        self.row_bytes = stored.median * 2**20 / stored.size
        self.reconcile_s = rows["reconciling 500 inboxes, none behind, planned anew"].points[-1].median / 1e3 / 500
        self.changes_s = rows["changes after a cursor (10), planned anew"].points[-1].median / 1e3
        self.event_s = history["fan-out of many, for each"].points[-1].median / 1e3
        self.channel_bytes = float(simulated["channel_bytes"])
        self.frame_s = float(simulated["frame_us"]) / 1e6
        self.chunk_line_s = float(max(simulated["chunk_line_us"].values())) / 1e6


def _by_name(figures: dict[str, Any]) -> dict[str, Series]:
    return {each["name"]: Series.of(each) for each in figures["series"]}


#: The reconciler's pause: each stream's inbox is compared this often.
RECONCILE_S = 5.0
#: Connections that an API process holds at PostgreSQL, with the default pool.
POOL = 10 + 2 + 1
#: Worker processes for each core that they keep busy.
WORKER_CONNECTIONS = 4


class Model:
    """The figures of one plan with measured costs. Each property is a quantity in the unit that its name tells."""

    def __init__(self, plan: Plan, costs: Costs) -> None:
        self.plan, self.costs = plan, costs

    @property
    def edges(self) -> int:
        """API processes for streams, one core each."""
        return math.ceil(self.plan.streams / self.plan.edge_streams)

    @property
    def edge_memory_gb(self) -> float:
        """Memory of all edges."""
        return (self.edges * self.costs.process_bytes + self.plan.streams * self.costs.stream_bytes) / GB

    @property
    def edge_idle_share(self) -> float:
        """Share of its core that an edge's streams cost while nothing happens."""
        return self.plan.edge_streams * self.costs.idle_s

    @property
    def edge_announcement_share(self) -> float:
        """Share of its core that an announcement to all costs an edge while it is told: its own, and all others'."""
        own = self.plan.edge_streams * self.costs.told_s
        return (own + self.plan.recipients * self.costs.foreign_s) / self.plan.announcement_s

    @property
    def events_a_second(self) -> float:
        """Personal events in the busiest second."""
        return self.plan.recipients * self.plan.personal_a_day / DAY_S * self.plan.peak

    @property
    def event_cores(self) -> float:
        """Cores, of workers and PostgreSQL together, that these take."""
        return self.events_a_second * self.costs.event_s

    @property
    def announcement_cores(self) -> float:
        """Cores that an announcement to all takes while it is told, of workers and PostgreSQL together."""
        return self.plan.recipients * self.costs.announced_cpu_s / self.plan.announcement_s

    @property
    def reconcile_cores(self) -> float:
        """Cores of PostgreSQL that comparing all streams takes, at all times."""
        return self.plan.streams / RECONCILE_S * self.costs.reconcile_s

    @property
    def stored_gb(self) -> float:
        """Notifications and inboxes with their indexes."""
        return self.plan.recipients * self.plan.history * self.costs.row_bytes / GB

    @property
    def databases(self) -> int:
        """PostgreSQL servers: for what is stored, or for the work at the busiest, whichever takes more."""
        by_disk = self.stored_gb / (self.plan.postgres_disk_gb / 2)
        by_work = self.busiest_cores / (self.plan.postgres_cores * self.plan.busy)
        return math.ceil(max(by_disk, by_work))

    @property
    def busiest_cores(self) -> float:
        """Cores of workers and PostgreSQL in the busiest second, an announcement included."""
        return self.event_cores + self.announcement_cores + self.reconcile_cores

    @property
    def connections(self) -> int:
        """Connections to all databases together, before any pooler: every process may reach every database."""
        workers = math.ceil(self.busiest_cores / self.plan.busy / 2)
        return (self.edges * POOL + workers * WORKER_CONNECTIONS) * self.databases

    @property
    def chunk_gbit(self) -> float:
        """Gbit/s of chunk messages to all edges while an announcement is told: every edge hears every recipient."""
        return self.edges * self.plan.recipients * LINE / self.plan.announcement_s / GBIT

    @property
    def redis_servers(self) -> int:
        """Redis servers: for the chunks' network and core, and for the frames."""
        network = self.chunk_gbit / (self.plan.redis_gbit * self.plan.busy)
        lines = self.edges * self.plan.recipients * self.costs.chunk_line_s / self.plan.announcement_s
        frames = self.events_a_second * self.costs.frame_s
        needed = math.ceil(max(network, (lines + frames) / self.plan.busy, 1))
        return needed if needed == 1 else max(needed, LEAST_CLUSTER)

    @property
    def redis_memory_gb(self) -> float:
        """Memory for the channels of all streams."""
        return self.plan.streams * self.costs.channel_bytes / GB

    @property
    def client_gb_month(self) -> float:
        """GB a month to clients: heartbeats, personal frames and announcements of those who are connected."""
        heartbeats = self.plan.streams * 110 / 30 * 3_600 * MONTH_H
        connected = self.plan.streams / self.plan.recipients
        personal = self.plan.recipients * self.plan.personal_a_day * 30 * connected * self.plan.frame_bytes
        announced = self.plan.announcements_a_month * self.plan.streams * self.plan.frame_bytes
        return (heartbeats + personal + announced) / GB

    @property
    def inside_gb_month(self) -> float:
        """GB a month between processes: chunks to every edge, and the WAL to each database's standby."""
        chunks = self.plan.announcements_a_month * self.edges * self.plan.recipients * LINE
        rows = self.plan.recipients * (self.plan.personal_a_day * 30 + self.plan.announcements_a_month)
        return (chunks + rows * self.costs.wal_bytes) / GB

    def money(self) -> dict[str, float]:
        """Return dollars a month for each part."""
        plan = self.plan
        postgres = plan.postgres_cores * (plan.core_month + 4 * plan.memory_gb_month)
        postgres += plan.postgres_disk_gb * plan.disk_gb_month
        redis = 2 * plan.core_month + 8 * plan.memory_gb_month
        worker_cores = self.busiest_cores / 2 / plan.busy
        found = {
            "edges": self.edges * plan.core_month + self.edge_memory_gb * plan.memory_gb_month,
            "PostgreSQL, 4 GB a core, with a standby each": 2 * self.databases * postgres,
            "workers, half of the cores above, 2 GB a core": worker_cores
            * (plan.core_month + 2 * plan.memory_gb_month),
            "Redis, 2 cores and 8 GB, with a replica each": 2 * self.redis_servers * redis,
            "traffic inside": self.inside_gb_month * plan.inside_gb,
            "traffic to clients": self.client_gb_month * plan.outside_gb,
        }
        return {**found, "together": sum(found.values())}

    def herd(self, streams: float, edges: float) -> tuple[float, float]:
        """Return when the last of so many streams is back on so many edges, and the longest wait, in seconds."""
        scale = max(1.0, streams / MOST_SIMULATED)
        found = come_back(round(streams / scale), max(1, round(edges / scale)), self.costs.opening_s, spread())
        return found.last_s, found.longest_wait_s


@dataclass(frozen=True, slots=True)
class Limit:
    """What one of something reaches, as a number of recipients: with the plan's share of them connected."""

    what: str
    recipients: float
    grows: str
    remedy: str


def limits(model: Model) -> list[Limit]:
    """Return what breaks first when everything but the edges and workers is there once, the soonest first."""
    plan, costs = model.plan, model.costs
    streams = plan.streams / plan.recipients
    core, cores = plan.busy, plan.postgres_cores * plan.busy
    each_day = plan.personal_a_day / DAY_S * plan.peak
    edges = streams / plan.edge_streams
    heard = plan.redis_gbit * GBIT * plan.busy * plan.announcement_s
    found = [
        Limit("one edge process: streams", plan.edge_streams / streams, "linear", "more edge processes"),
        Limit("one PostgreSQL: disk", plan.postgres_disk_gb * GB / 2 / (plan.history * costs.row_bytes), "linear",
              "tenants' own databases; a smaller cap"),
        Limit("one PostgreSQL and its workers: announcement to all",
              cores * plan.announcement_s / costs.announced_cpu_s, "linear", "tenants' own databases; more time"),
        Limit("one PostgreSQL and its workers: personal events", cores / (each_day * costs.event_s), "linear",
              "tenants' own databases"),
        Limit("one PostgreSQL: comparing all streams each 5 s", cores * RECONCILE_S / (streams * costs.reconcile_s),
              "linear", "tenants' own databases; CARILLON_RECONCILE_SECONDS"),
        Limit("one PostgreSQL: 200 connections, 13 for each edge process", 200 / POOL / edges, "linear", "PgBouncer"),
        Limit("one Redis core: personal frames", core / (each_day * costs.frame_s), "linear", "a Redis Cluster"),
        Limit("one Redis network: chunks, which every edge hears", math.sqrt(heard / (edges * LINE)), "**square**",
              "a Redis Cluster (4 channels of chunks); chunks by tenant"),
        Limit("one Redis core: chunks", math.sqrt(core * plan.announcement_s / (edges * costs.chunk_line_s)),
              "**square**", "the same"),
        Limit("each edge's core: chunks that are for others", core * plan.announcement_s / costs.foreign_s, "linear",
              "the same; more time"),
    ]  # fmt: skip
    return sorted(found, key=lambda limit: limit.recipients)


def plan_table(plan: Plan) -> str:
    """Return the assumptions."""
    rows = [(each.metadata["words"], shown(getattr(plan, each.name))) for each in fields(plan)]
    return report.table(("assumed", "value"), rows)


def cost_table(costs: Costs) -> str:
    """Return the measured costs that the model uses."""
    rows = [
        ("memory of an edge process, and of each stream", f"{shown(costs.process_bytes / 2**20)} MiB, "
         f"{shown(costs.stream_bytes / 1024)} KiB", "streams"),
        ("idle stream, heartbeat each 10 s and reconciling", f"{shown(1e6 * costs.idle_s)} µs of the edge each second",
         "streams"),
        ("opening a stream", f"{shown(1e6 * costs.opening_s)} µs of the edge", "streams"),
        ("frame of an announcement", f"{shown(1e6 * costs.told_s)} µs of the edge", "streams"),
        ("recipient in a chunk who is elsewhere", f"{shown(1e6 * costs.foreign_s)} µs of each edge", "streams"),
        ("recipient of an announcement", f"{shown(1e6 * costs.announced_cpu_s)} µs of all parts, "
         f"{shown(costs.wal_bytes)} bytes of WAL", "recipients"),
        ("announcement, on the two cores measured", f"{shown(costs.announced_rows_s)} recipients/s", "recipients"),
        ("personal event, fanned out in batches", f"{shown(1e6 * costs.event_s)} µs of worker and PostgreSQL",
         "history"),
        ("stored notification, with its indexes and its share of the inbox", f"{shown(costs.row_bytes)} bytes", "rows"),
        ("comparing a stream with its inbox", f"{shown(1e6 * costs.reconcile_s)} µs of PostgreSQL", "rows"),
        ("reading what a stream missed", f"{shown(1e6 * costs.changes_s)} µs of PostgreSQL", "rows"),
        ("channel of an inbox", f"{shown(costs.channel_bytes)} bytes of Redis", "simulation"),
        ("frame published on it", f"{shown(1e6 * costs.frame_s)} µs of Redis", "simulation"),
        ("recipient in a chunk, for each edge", f"{shown(1e9 * costs.chunk_line_s)} ns of Redis, {LINE} bytes",
         "simulation"),
    ]  # fmt: skip
    return report.table(("measured", "cost", "from"), rows)


def need_table(model: Model) -> str:
    """Return what the plan takes."""
    rows = [
        ("edge processes, a core each", model.edges),
        ("their memory", f"{shown(model.edge_memory_gb)} GB"),
        ("an edge's core, idle / while an announcement to all is told",
         f"{model.edge_idle_share:.1%} / {model.edge_announcement_share:.1%}"),
        ("personal events at the busiest", f"{shown(model.events_a_second)} a second"),
        ("cores of workers and PostgreSQL: personal events", shown(model.event_cores)),
        ("… an announcement to all, while it is told", shown(model.announcement_cores)),
        ("… comparing all streams each 5 s", shown(model.reconcile_cores)),
        ("stored", f"{shown(model.stored_gb)} GB"),
        ("PostgreSQL servers", model.databases),
        ("connections to them, without a pooler", f"{model.connections:,}"),
        ("chunks to all edges while an announcement is told", f"{shown(model.chunk_gbit)} Gbit/s"),
        ("Redis servers", model.redis_servers),
        ("their memory for channels", f"{shown(model.redis_memory_gb)} GB"),
        ("to clients in a month", f"{shown(model.client_gb_month)} GB"),
        ("between processes in a month", f"{shown(model.inside_gb_month)} GB"),
        *((f"$ a month: {part}", f"{dollars:,.0f}") for part, dollars in model.money().items()),
    ]  # fmt: skip
    return report.table(("needed", "value"), rows)


def limit_table(model: Model) -> str:
    """Return what breaks first."""
    share = model.plan.streams / model.plan.recipients
    rows = [
        (place, each.what, short(each.recipients), short(each.recipients * share), each.grows, each.remedy)
        for place, each in enumerate(limits(model), 1)
    ]
    return report.table(("", "one of it suffices for", "recipients", "streams", "its load grows", "then"), rows)


def herd_table(model: Model) -> str:
    """Return how streams come back that were cut."""
    plan, edges = model.plan, model.edges
    host = 16
    cases = [
        ("one edge process is lost", plan.edge_streams, edges - 1),
        (f"a host with {host} of them is lost", host * plan.edge_streams, edges - host),
        ("everything is lost for a moment", plan.streams, edges),
    ]
    rows = []
    for words, streams, left in cases:
        last, longest = model.herd(streams, left)
        reads = streams * model.costs.changes_s / (model.databases * plan.postgres_cores)
        rows.append((words, f"{streams:,.0f}", left, f"{last:.1f} s", f"{longest:.1f} s", f"{reads:.1f} s"))
    header = (
        "",
        "streams that return",
        "to edges",
        "last one back after",
        "longest wait",
        "all of PostgreSQL, reading",
    )
    return report.table(header, rows)


def parts(model: Model) -> dict[str, str]:
    """Return every part of the document that is computed, by its mark."""
    return {
        "plan": plan_table(model.plan),
        "costs": cost_table(model.costs),
        "needs": need_table(model),
        "limits": limit_table(model),
        "herd": herd_table(model),
    }


def write(path: Path = DOCUMENT) -> None:
    """Put what is computed into the document."""
    for mark, part in parts(Model(Plan(), Costs())).items():
        report.write(mark, part, path)


if __name__ == "__main__":
    write()
