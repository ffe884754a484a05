"""The figures as a table with medians, ranges and the ratios that the product is held to."""

from __future__ import annotations

import json
import statistics
import subprocess
from collections.abc import Callable
from dataclasses import asdict, dataclass
from functools import cache
from importlib.metadata import version
from pathlib import Path

from bench import report
from bench.peers import ours, picture
from bench.peers.choice import PEERS
from bench.peers.measures import Figures
from shared.settings import PROJECT_ROOT

Results = dict[str, list[Figures]]

NAME = "edge"
#: What is measured of the product while nothing happens.
IDLE = "carillon-idle"
TITLES = {peer.name: peer.title for peer in PEERS} | {"carillon": ours.TITLE}
CONFIGURATIONS = {peer.name: peer.configuration for peer in PEERS} | {"carillon": ours.CONFIGURATION}
COLUMNS = {
    "unicast_per_s": "unicast: most messages/s with p99 < 100 ms",
    "p99_calm_ms": "p99 at 2,000/s, ms",
    "p99_disturbed_ms": "… with 200 reconnects/s and a slow reader",
    "unanswered": "… reconnects not answered",
    "deliveries_per_s": "broadcast: deliveries/s",
    "last_ms": "the last of 5,000 has it, ms",
    "connects_per_s": "connects/s",
    "rss_kib": "KiB a stream",
    "idle_percent": "% of a core, idle",
}
SHOWN = (
    picture.Column("unicast_per_s", "messages/s to one each", "5,000 streams, p99 < 100 ms"),
    picture.Column("deliveries_per_s", "deliveries/s of broadcasts", "to 5,000 streams"),
    picture.Column("rss_kib", "KiB for each stream", "less is better"),
)
#: The figures of the last run, as far as it came; and those of the last one that was written.
KEPT, WRITTEN = PROJECT_ROOT / ".cache" / "bench-peers.json", report.RESULTS / f"{NAME}.json"
#: nchan's ways of using Redis on the one core that a server has here.
NCHAN_BY_REDIS = ("nchan-redis", "nchan-nostore")
#: Below this the C program is not the limit that it is to be, and the run does not count.
LIMIT_BY_NCHAN = 2.5


@dataclass(frozen=True, slots=True)
class Told:
    """What was measured, by which command, on which machine."""

    command: str
    machine: dict[str, str]
    results: Results


@dataclass(frozen=True, slots=True)
class Held:
    """What the product is held to: a figure against a bound, which may be of another server's figure.

    Without a bound the figure is told beside the others.
    """

    what: str
    figure: Callable[[Results], float]
    bound: float | None
    at_least: bool = True

    def row(self, results: Results) -> list[str] | None:
        """Return a row of the table; None where a server was left out, or did not reach the least rate."""
        try:
            value = self.figure(results)
        except (KeyError, ZeroDivisionError):
            return None
        if self.bound is None:
            return [self.what, f"{value:,.2f}", "", ""]
        kept = value >= self.bound if self.at_least else value <= self.bound
        sign = "≥" if self.at_least else "≤"
        return [self.what, f"{value:,.2f}", f"{sign} {self.bound:,g}", "yes" if kept else "no"]


def median(results: Results, name: str, figure: str) -> float:
    """Return a server's median; raises KeyError where it was not measured."""
    return statistics.median(told[figure] for told in results[name])


def _by(figure: str, other: str) -> Callable[[Results], float]:
    return lambda results: median(results, "carillon", figure) / median(results, other, figure)


def _own(figure: str, name: str = "carillon") -> Callable[[Results], float]:
    return lambda results: median(results, name, figure)


def _of_nchan_by_redis(results: Results) -> float:
    """Of the faster way: in both every server that shares the Redis is told. KeyError unless both were measured."""
    ways = [median(results, name, "unicast_per_s") for name in NCHAN_BY_REDIS]
    return median(results, "carillon", "unicast_per_s") / max(ways)


HELD = (
    Held("unicast, of the C limit", _by("unicast_per_s", "limit"), 0.5),
    Held("unicast, of nchan by HTTP", _by("unicast_per_s", "nchan"), 1.5),
    Held("unicast, of nchan through Redis, the faster of its ways", _of_nchan_by_redis, 6),
    Held("… with an nginx on a second core that is published to", _by("unicast_per_s", "nchan-apart"), None),
    Held("unicast, of the sse-starlette tutorial", _by("unicast_per_s", "tutorial"), 4),
    Held("p99 at 2,000 messages/s, ms", _own("p99_calm_ms"), 5, at_least=False),
    Held("announcement: deliveries/s, of nchan's with one identical frame", _by("deliveries_per_s", "nchan"), 1),
    Held("announcement: the last of 5,000 has it, ms", _own("last_ms"), 80, at_least=False),
    Held("authenticated connects/s", _own("connects_per_s"), 2_000),
    Held("10,000 idle streams: KiB each", _own("rss_kib", IDLE), 15, at_least=False),
    Held("10,000 idle streams with heartbeats: % of a core", _own("idle_percent", IDLE), 3, at_least=False),
    Held(
        "a slow reader and 200 reconnects/s: the others' p99, of the quiet p99",
        lambda results: median(results, "carillon", "p99_disturbed_ms") / median(results, "carillon", "p99_quiet_ms"),
        2, at_least=False,
    ),
    Held("of those reconnects not answered", _own("unanswered"), 0, at_least=False),
)  # fmt: skip


def _cell(results: Results, name: str, figure: str) -> str:
    values = sorted(told[figure] for told in results[name] if figure in told)
    if not values:
        return ""
    digits = 0 if values[-1] >= 1_000 else 1
    text = f"{statistics.median(values):,.{digits}f}"
    return text if len(values) == 1 else f"{text} ({values[0]:,.{digits}f} to {values[-1]:,.{digits}f})"


def _servers(results: Results) -> str:
    rows = [
        [_title(results, name), *(_cell(results, name, figure) for figure in COLUMNS)]
        for name in results
        if name in TITLES
    ]
    if "carillon" in results:
        same = [
            _cell(results, "carillon", f"identical_{figure}") if figure in ("deliveries_per_s", "last_ms") else ""
            for figure in COLUMNS
        ]
        rows.append([f"… identical frames, {ours.SHARING} streams a recipient", *same])
    return report.table(["server", *COLUMNS.values()], rows)


def _title(results: Results, name: str) -> str:
    """Return a server's title, with the number of its runs where that is not what most is told of."""
    number = len(results[name])
    return TITLES[name] if number == _runs(results) else f"{TITLES[name]} ({number} run{'s' * (number > 1)})"


def _runs(results: Results) -> int:
    return max(map(len, results.values()), default=0)


def _left_out(results: Results) -> str:
    """Tell which servers have no figures, and what is therefore not held to anything; nothing where all have."""
    names = [f"`{name}`" for name in (*TITLES, IDLE) if name not in results]
    lines = [f"“{each.what}”" for each in HELD if each.row(results) is None]
    told = f"Left out of this run, or failed in it: {', '.join(names)}." if names else ""
    return f"{told} Not told without them: {', '.join(lines)}.".strip() if lines else told


def _held(results: Results) -> str:
    rows = [row for each in HELD if (row := each.row(results)) is not None]
    return report.table(["held to", "measured", "bound", "kept"], rows)


def _counts(results: Results) -> str:
    try:
        factor = median(results, "limit", "unicast_per_s") / median(results, "nchan", "unicast_per_s")
    except (KeyError, ZeroDivisionError):
        return "The C limit or nchan has no rate: the run does not count."
    verdict = "counts" if factor >= LIMIT_BY_NCHAN else "does **not** count"
    return (
        f"The C limit reaches {factor:.2f} times nchan's unicast rate (at least {LIMIT_BY_NCHAN}): the run {verdict}."
    )


def _answer(*command: str) -> str:
    try:
        done = subprocess.run(command, capture_output=True, text=True, check=True)
    except (OSError, subprocess.CalledProcessError):
        return "not there"
    return (done.stdout + done.stderr).strip().splitlines()[0]


@cache
def machine() -> dict[str, str]:
    """Return what it was measured on, and the peers' versions."""
    return report.machine() | {
        "nginx": _answer("/usr/sbin/nginx", "-v").rpartition("/")[2],
        "nchan": _answer("dpkg-query", "-W", "-f", "${Version}", "libnginx-mod-nchan"),
        **{name: version(name) for name in ("fastapi", "starlette", "sse-starlette")},
        "node": _answer("node", "--version").lstrip("v"),
        "pushpin": _answer("dpkg-query", "-W", "-f", "${Version}", "pushpin"),
        "gcc": _answer("gcc", "-dumpfullversion"),
    }


def _rows(results: Results) -> list[picture.Row]:
    """Return the picture's lines: the fastest first."""
    known = [name for name in results if name in TITLES]
    known.sort(key=lambda name: -median(results, name, "unicast_per_s"))
    return [
        picture.Row(
            TITLES[name].replace("*", "").replace("`", ""),
            {"carillon": "ours", "limit": "limit"}.get(name, ""),
            {each.figure: [told[each.figure] for told in results[name] if each.figure in told] for each in SHOWN},
        )
        for name in known
    ]


def text(told: Told) -> str:
    """Return everything that docs/performance.md says of the peers."""
    results, on = told.results, ", ".join(f"{name} {value}" for name, value in told.machine.items())
    number = _runs(results)
    parts = [
        f"`{told.command}`: medians of {number} run{'s' * (number > 1)} (least to greatest) unless a server's title "
        f"has another number; without a range, of one. {on}.",
        _servers(results),
        "![the edge beside its peers](images/peers.svg)",
        _held(results),
        _counts(results),
        *filter(None, [_left_out(results)]),
        "\n".join(f"- {TITLES[name]}: {CONFIGURATIONS[name]}." for name in results if name in TITLES),
    ]
    return "\n\n".join(parts)


def write(told: Told) -> None:
    """Put the tables between their marks in docs/performance.md, the picture beside, all figures in bench/results."""
    report.save(NAME, asdict(told))
    (report.IMAGES / "peers.svg").write_text(picture.bars(_rows(told.results), SHOWN))
    report.write(NAME, text(told))


def keep(told: Told) -> None:
    """Keep what a run has measured so far, where its end cannot take it away."""
    KEPT.parent.mkdir(exist_ok=True)
    KEPT.write_text(json.dumps(asdict(told), indent=1))


def write_again(kept: Path) -> None:
    """Write the documents anew from figures that were kept, by default those in bench/results."""
    write(Told(**json.loads(kept.read_text())))
