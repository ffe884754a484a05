"""The dashboard and the alerts ask for metrics that exist, and each alert has an entry in the runbook."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import yaml

from shared.metrics import Metric
from shared.settings import PROJECT_ROOT
from tests.unit.test_metrics_documented import told

ALERTS = PROJECT_ROOT / "deploy/prometheus/alerts.yml"
DASHBOARD = PROJECT_ROOT / "deploy/grafana/carillon.json"
_NAME = re.compile(r"\bcarillon_\w+")
_LABELLED = re.compile(r"\b(carillon_\w+)\{([^}]*)\}")


def _rules() -> list[dict[str, Any]]:
    return [rule for group in yaml.safe_load(ALERTS.read_text())["groups"] for rule in group["rules"]]


def _panels() -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = json.loads(DASHBOARD.read_text())["panels"]
    return found


def _expressions() -> list[str]:
    targets = [target["expr"] for panel in _panels() for target in panel.get("targets", [])]
    return [*targets, *(rule["expr"] for rule in _rules())]


def _known() -> set[str]:
    histograms = [name for name, metric in Metric.ALL.items() if metric.kind == "histogram"]
    return told() | {f"{name}_{part}" for name in histograms for part in ("bucket", "sum", "count")}


def test_every_metric_that_is_asked_for_exists() -> None:
    asked = {name for expression in _expressions() for name in _NAME.findall(expression)}
    assert asked - _known() == set()


def test_every_metric_is_on_the_dashboard() -> None:
    shown = {name for panel in _panels() for each in panel.get("targets", []) for name in _NAME.findall(each["expr"])}
    shown |= {name.removesuffix("_bucket") for name in shown}
    assert told() - shown == set()


def test_every_label_that_is_asked_for_exists() -> None:
    for expression in _expressions():
        for name, labels in _LABELLED.findall(expression):
            metric = Metric.ALL.get(name.removesuffix("_bucket"))
            asked = set(re.findall(r"(\w+)\s*(?:=~|!=|=)", labels))
            assert metric is None or asked <= set(metric.labels), expression


def test_every_alert_has_a_runbook_entry_and_words() -> None:
    entries = re.findall(r"^### (\w+)$", (PROJECT_ROOT / "docs/operations.md").read_text(), re.MULTILINE)
    assert [rule["alert"] for rule in _rules()] == entries
    for rule in _rules():
        assert rule["annotations"].keys() == {"summary", "description"}, rule["alert"]
        assert rule["labels"]["severity"] in ("page", "ticket"), rule["alert"]


def test_no_two_panels_lie_upon_each_other() -> None:
    taken: set[tuple[int, int]] = set()
    for panel in _panels():
        place = panel["gridPos"]
        cells = {(place["x"] + x, place["y"] + y) for x in range(place["w"]) for y in range(place["h"])}
        assert taken.isdisjoint(cells), panel["title"]
        assert place["x"] + place["w"] <= 24, panel["title"]
        taken |= cells


def test_the_rules_do_what_their_cases_say_where_promtool_is_installed() -> None:
    """Without it the rules' form is all that is seen here."""
    assert {"alert", "expr", "labels", "annotations"} <= set.intersection(*(set(rule) for rule in _rules()))
    if promtool := shutil.which("promtool"):
        cases = Path("deploy/prometheus/alerts_test.yml")
        command = [promtool, "test", "rules", str(cases)]
        done = subprocess.run(command, cwd=PROJECT_ROOT, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stdout + done.stderr
