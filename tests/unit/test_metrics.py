"""The numbers: counted in memory that outlives a process, added up over all of them, told as Prometheus reads them."""

from __future__ import annotations

import os
import resource
import threading
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

import pytest
from prometheus_client.parser import text_string_to_metric_families

from shared import cells, exposition, metrics
from shared.cells import Cells, read_all
from shared.exposition import KEPT, LATEST, Counted, Measured

EVENTS = ("carillon_events_total", "", "accepted")
STREAMS = ("carillon_streams", "")
LAST = ("carillon_task_last_success_timestamp_seconds", "", "carillon.sweep")


def _counting(folder: Path, part: str = "worker", **amounts: int) -> Cells:
    made = Cells()
    made.open(folder, part)
    names = {"events": EVENTS, "streams": STREAMS, "last": LAST}
    for name, amount in amounts.items():
        made.values[made.place(names[name])] = amount
    return made


def _sums(folder: Path) -> dict[tuple[str, ...], int]:
    return dict(exposition.counted(folder).sums)


def test_the_counts_of_all_processes_are_added(tmp_path: Path) -> None:
    _one, _two = _counting(tmp_path, events=3, streams=2), _counting(tmp_path, "api", events=4, streams=5)
    told = exposition.counted(tmp_path)
    assert (told.sums[EVENTS], told.sums[STREAMS]) == (7, 7)
    assert sorted(read.part for read in told.living) == ["api", "worker"]


def test_an_ended_process_leaves_its_counters_but_not_its_gauges(tmp_path: Path) -> None:
    gone, _stays = _counting(tmp_path, events=3, streams=2, last=9), _counting(tmp_path, events=4, streams=5, last=8)
    gone.close()
    for _ in range(3):
        sums = _sums(tmp_path)
        assert (sums[EVENTS], sums[STREAMS], sums[LAST]) == (7, 5, 9)
    assert len(list(tmp_path.glob("*.cells"))) == 1


def test_a_killed_process_loses_no_count(tmp_path: Path) -> None:
    child = os.fork()
    if child == 0:
        _counting(tmp_path, events=11)
        os.kill(os.getpid(), 9)
    os.waitpid(child, 0)
    assert _sums(tmp_path)[EVENTS] == 11


def test_a_reader_that_ends_before_it_removed_a_file_has_it_counted_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    _counting(tmp_path, events=3).close()
    with monkeypatch.context() as patch:
        patch.setattr(Path, "unlink", _refuse)
        with pytest.raises(OSError, match="killed"):
            _sums(tmp_path)
    assert _sums(tmp_path)[EVENTS] == 3
    assert _sums(tmp_path)[EVENTS] == 3


def _refuse(*_: object, **__: object) -> None:
    raise OSError("killed")


def test_a_forked_process_counts_into_a_file_of_its_own(tmp_path: Path) -> None:
    parent = _counting(tmp_path, events=1)
    child = os.fork()
    if child == 0:
        parent.open(tmp_path, "worker")
        parent.add(parent.place(EVENTS), 10)
        os._exit(0)
    os.waitpid(child, 0)
    parent.add(parent.place(EVENTS), 1)
    assert _sums(tmp_path)[EVENTS] == 12


def _ended(work: Callable[[], None]) -> int:
    """Run it in a process of its own and return the exit status: 7 where it raised `OSError`, negative for a signal."""
    child = os.fork()
    if child == 0:
        try:
            work()
        except OSError:
            os._exit(7)
        os._exit(0)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


def _count_without_room(folder: Path) -> None:
    made = _counting(folder, events=3)
    size = next(folder.glob("*.cells")).stat().st_size
    resource.setrlimit(resource.RLIMIT_FSIZE, (size + 9, size + 9))
    for number in range(3):
        made.add(made.place(("carillon_no_room", "", str(number))), 1)
    made.add(made.place(EVENTS), 4)


def _begin_without_room(folder: Path) -> None:
    resource.setrlimit(resource.RLIMIT_FSIZE, (100, 100))
    Cells().open(folder, "worker")


def test_a_full_disk_stops_no_process_and_mixes_up_no_numbers(tmp_path: Path) -> None:
    """The names are beyond the cells, in their order: one that found no room would shift all later ones."""
    assert _ended(partial(_count_without_room, tmp_path)) == 0
    sums = _sums(tmp_path)
    assert (sums[EVENTS], sums[cells.SPILLED]) == (7, 3)
    assert [name for name in sums if name[0] == "carillon_no_room"] == []


def test_a_file_has_its_room_before_it_is_written_to(tmp_path: Path) -> None:
    """On a full disk a page that has none ends the process that touches it (SIGBUS)."""
    _counting(tmp_path)
    (file,) = tmp_path.glob("*.cells")
    assert file.stat().st_blocks * 512 >= cells.SIZE


def test_a_file_that_finds_no_room_at_all_is_refused_and_removed(tmp_path: Path) -> None:
    assert _ended(partial(_begin_without_room, tmp_path)) == 7
    assert list(tmp_path.glob("*.cells")) == []


def test_a_name_that_is_half_written_is_left_out(tmp_path: Path) -> None:
    made = _counting(tmp_path, events=3)
    path = next(tmp_path.glob("*.cells"))
    with path.open("ab") as file:
        file.write(b'["carillon_half')
    assert _sums(tmp_path)[EVENTS] == 3
    made.close()


def test_threads_of_one_process_lose_nothing_to_each_other(tmp_path: Path) -> None:
    made = _counting(tmp_path)
    place = made.place(EVENTS)

    def count() -> None:
        for _ in range(20_000):
            made.add(place, 1)

    threads = [threading.Thread(target=count) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert _sums(tmp_path)[EVENTS] == 80_000


def test_more_labels_than_there_are_cells_are_counted_together(tmp_path: Path) -> None:
    made = _counting(tmp_path)
    for number in range(cells.CELLS + 10):
        made.add(made.place(("carillon_type_commits_total", "", f"type{number}")), 1)
    sums = _sums(tmp_path)
    assert len(sums) == cells.CELLS
    assert sums[cells.SPILLED] == 11
    assert sum(sums.values()) == cells.CELLS + 10


@pytest.fixture
def fresh() -> Iterator[Cells]:
    """This process's cells, at zero before and after."""
    cells.CELLS_HERE.close()
    yield cells.CELLS_HERE
    cells.CELLS_HERE.close()


def _samples(measured: list[Measured] | None = None) -> dict[tuple[str, ...], float]:
    told = Counted([], cells.CELLS_HERE.told())
    body, content_type = exposition.render(told, measured or [], "text/plain")
    assert content_type.startswith("text/plain; version=")
    samples = [sample for family in text_string_to_metric_families(body.decode()) for sample in family.samples]
    return {(each.name, *(each.labels[name] for name in sorted(each.labels))): each.value for each in samples}


def test_a_histogram_is_told_in_cumulative_buckets(fresh: Cells) -> None:
    metrics.COMMIT.observe([0.001, 0.0025, 0.3], "urgent")
    metrics.COMMIT.observe([400.0, -1.0], "urgent")
    metrics.COMMIT.observe([], "urgent")
    samples = _samples()
    name = "carillon_event_to_commit_seconds"
    told = [samples[f"{name}_bucket", "urgent", bound] for bound in ("0.0025", "0.25", "0.5", "300.0", "+Inf")]
    assert told == [3, 3, 4, 4, 5]
    assert samples[f"{name}_count", "urgent"] == 5
    assert samples[f"{name}_sum", "urgent"] == pytest.approx(400.3035)


def test_a_quantile_is_the_bound_that_it_lies_below(fresh: Cells) -> None:
    metrics.COMMIT.observe([0.004] * 98 + [0.2] * 2, "urgent")
    sums = cells.CELLS_HERE.told()
    quantiles = [exposition.quantile_of(sums, metrics.COMMIT, share, "urgent") for share in (0.5, 0.98, 0.99)]
    assert quantiles == [0.005, 0.005, 0.25]
    assert exposition.quantile_of(sums, metrics.COMMIT, 0.5, "fan_out") is None


def test_a_label_cannot_break_the_exposition(fresh: Cells) -> None:
    metrics.TASKS.add(2, 'a"b\\c\nd', "success")
    assert _samples()["carillon_tasks_total", "success", 'a"b\\c\nd'] == 2


def test_times_are_told_in_seconds(fresh: Cells) -> None:
    metrics.TASK_SECONDS.spend(1.5, "carillon.sweep")
    metrics.TASK_LAST.now("carillon.sweep")
    samples = _samples()
    assert samples["carillon_task_seconds_total", "carillon.sweep"] == 1.5
    assert samples["carillon_task_last_success_timestamp_seconds", "carillon.sweep"] > 1_700_000_000


def test_nothing_counted_is_told_as_nothing_where_there_are_no_labels(fresh: Cells) -> None:
    assert _samples()["carillon_slow_readers_total",] == 0


def test_what_was_measured_stands_beside_what_was_counted(fresh: Cells) -> None:
    gauges = [Measured("carillon_up", "Whether it is there", "dependency", {"redis": 1.0})]
    assert _samples(gauges)["carillon_up", "redis"] == 1


def test_what_is_kept_of_an_ended_process_is_every_metric_but_gauges() -> None:
    assert {"carillon_streams", "carillon_inboxes_followed"}.isdisjoint(KEPT)
    assert set(LATEST) < set(KEPT)


def test_a_folder_without_processes_tells_nothing(tmp_path: Path) -> None:
    assert read_all(tmp_path, KEPT, LATEST) == ([], {})
