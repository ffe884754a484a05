"""A wrong catalog does not load: each fault is a sentence with file and type, and one run tells them all."""

from __future__ import annotations

from pathlib import Path

import pytest

from shared.catalog import load_catalog
from shared.cli.catalog import catalog_app
from shared.cli.console import run
from shared.errors import CatalogError

RIGHT = """
[[type]]
name = "thing.made"
description = "A thing was made."
category = "thing"
time_to_live = "30d"
metadata = ["thing_id"]
data = { owner_id = "id", thing_id = "id", name = "title", big = "flag", "reason?" = "text" }
example = { owner_id = "ada", thing_id = "t-1", name = "Anvil", big = true, reason = "Needed" }

[[type.audience]]
recipient = "owner_id"
title = "Thing Made"
message = "{{ name }} was made.{% if reason %} Reason: {{ reason }}{% endif %}"
action_url = "/things/{{ thing_id | segment }}"
"""


def faults(folder: Path, source: str, name: str = "things.toml") -> list[str]:
    (folder / name).write_text(source, encoding="utf-8")
    with pytest.raises(CatalogError) as wrong:
        load_catalog(folder)
    return wrong.value.detail.splitlines()


def changed(old: str, new: str) -> str:
    assert old in RIGHT
    return RIGHT.replace(old, new)


def test_a_right_catalog_loads(tmp_path: Path) -> None:
    (tmp_path / "things.toml").write_text(RIGHT)
    loaded = load_catalog(tmp_path)
    assert [(kind.name, kind.domain, kind.priority) for kind in loaded] == [("thing.made", "things", "NORMAL")]


AUDIENCE = "things.toml: thing.made (audience 0)"


@pytest.mark.parametrize(
    ("old", "new", "fault"),
    [
        ("{{ name }} was", "{{ nane }} was", f"{AUDIENCE} has a message that uses `nane`, which its data lacks."),
        ("{% if reason %}", "{% if raeson %}", f"{AUDIENCE} has a message that uses `raeson`, which its data lacks."),
        (
            "{% if reason %} Reason: {{ reason }}{% endif %}",
            " Reason: {{ reason }}",
            f"{AUDIENCE} has a text that cannot be rendered: prints an optional field that may be absent:"
            " guard it with {% if … %}.",
        ),
        ("{{ name }} was", "{{ name was", None),
        (
            "Thing Made",
            "{{ recipient.shoe_size }}",
            f"{AUDIENCE} has a title that uses `recipient.shoe_size`, which does not exist.",
        ),
        ("Thing Made", "{{ ''.__class__.__mro__ }}", None),
        ("Thing Made", "{% if not big %}Big{% endif %}", f"{AUDIENCE} has an empty title."),
        ('recipient = "owner_id"', 'role = "wizard"', f"{AUDIENCE} has the unknown role `wizard`."),
        (
            'recipient = "owner_id"',
            'recipient = "holder_id"',
            f"{AUDIENCE} names `holder_id` as its recipient, which is no id (or list of ids) in its data.",
        ),
        (
            'recipient = "owner_id"',
            'recipient = "big"',
            f"{AUDIENCE} names `big` as its recipient, which is no id (or list of ids) in its data.",
        ),
        (
            'recipient = "owner_id"',
            'topic = "thing:{{ reason }}"',
            f"{AUDIENCE} has a topic that uses `reason`, which is optional.",
        ),
        (
            'recipient = "owner_id"',
            'recipient = "owner_id"\nwhen = "name"',
            f"{AUDIENCE} depends on `name`, which is no true or false in its data.",
        ),
        (
            'recipient = "owner_id"',
            "posted = true",
            f"{AUDIENCE} is posted, but its data has no `audience` object.",
        ),
        (
            'recipient = "owner_id"',
            'recipient = "owner_id"\nrole = "student"',
            "things.toml: thing.made audience 0 needs exactly one of recipient, topic, role, everyone, posted.",
        ),
        (
            '"/things/',
            '"//things/',
            f"{AUDIENCE} has a bad action URL: The action URL must have exactly one leading slash.",
        ),
        (
            '"/things/',
            '"javascript:',
            f"{AUDIENCE} has a bad action URL: The action URL must be a path with one leading slash,"
            " or start with https://.",
        ),
        (
            "{{ thing_id | segment }}",
            "{{ thing_id }}",
            f"{AUDIENCE} has an action URL that puts a value in without encoding it: write {{{{ name | segment }}}}.",
        ),
        (
            'metadata = ["thing_id"]',
            'metadata = ["thing_size"]',
            "things.toml: thing.made has `thing_size` in its metadata, which its data lacks.",
        ),
        (
            'thing_id = "t-1", ',
            "",
            "things.toml: thing.made has an example that does not fit its data: thing_id is required.",
        ),
        ('"title"', '"titel"', "things.toml: thing.made has a data field of an unknown kind 'titel'."),
        ('name = "title"', 'name = { type = "strong" }', None),
        (
            '"30d"',
            '"30 days"',
            "things.toml: thing.made has the time to live `30 days`; write it like 30d, 12h or 15m.",
        ),
        (
            'category = "thing"',
            'category = "thing"\ncap = 0',
            "things.toml: thing.made has the cap `0`; it must be a number from 1 to 10,000.",
        ),
        (
            'category = "thing"',
            'category = "thing"\npriority = "HUGE"',
            "things.toml: thing.made has the priority `HUGE`; it must be one of LOW, NORMAL, HIGH, URGENT.",
        ),
        (
            'category = "thing"',
            'category = "thing"\ncolour = "red"',
            "things.toml: thing.made has an unknown key `colour`.",
        ),
        (
            'category = "thing"',
            'category = "thing"\nshown = false',
            "things.toml: thing.made is not shown, but has an audience.",
        ),
        ('"thing.made"', '"Thing"', "things.toml: Thing needs a name like `certificate.issued`."),
        ('category = "thing"', "", "things.toml: thing.made needs a text `category`."),
        ("[[type]]", "[[type", None),
        ("[[type]]", 'colour = "red"\n[[type]]', "things.toml has an unknown key `colour`."),
    ],
)
def test_a_fault_is_told_in_one_sentence(tmp_path: Path, old: str, new: str, fault: str | None) -> None:
    told = faults(tmp_path, changed(old, new))
    assert len(told) == 1
    assert told[0].startswith("things.toml")
    assert fault in (None, told[0])


def test_all_faults_of_all_files_are_told_at_once(tmp_path: Path) -> None:
    (tmp_path / "broken.toml").write_text("= nothing")
    told = faults(tmp_path, changed("{{ name }}", "{{ nane }}").replace('"owner_id"', '"holder_id"'))
    assert len(told) == 3
    assert told[0].startswith("broken.toml is not valid TOML: ")
    assert {line.split(" ")[0] for line in told[1:]} == {"things.toml:"}


def test_a_name_and_a_notification_type_belong_to_one_type(tmp_path: Path) -> None:
    again = RIGHT.replace('"thing.made"', '"thing_made.x"') + RIGHT.replace('"thing.made"', '"thing.made_x"')
    assert faults(tmp_path, again) == ["things.toml: thing.made_x would share its notification type with thing_made.x."]
    assert faults(tmp_path, RIGHT + RIGHT) == ["things.toml: thing.made is declared already, in things.toml."]


def test_a_file_may_declare_roles(tmp_path: Path) -> None:
    (tmp_path / "things.toml").write_text('roles = ["wizard"]' + changed('recipient = "owner_id"', 'role = "wizard"'))
    assert "wizard" in load_catalog(tmp_path).roles


def test_a_folder_without_types_is_a_fault(tmp_path: Path) -> None:
    with pytest.raises(CatalogError, match="there is no event type in this folder"):
        load_catalog(tmp_path)


def test_the_command_checks_and_exits_1_with_the_faults(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(catalog_app, ["check"]) == 0
    assert capsys.readouterr().out == "48 event types in 8 domains, no faults.\n"
    (tmp_path / "things.toml").write_text(changed("{{ name }}", "{{ nane }}"))
    assert run(catalog_app, ["check", "--folder", str(tmp_path)]) == 1
    assert capsys.readouterr().err == f"{AUDIENCE} has a message that uses `nane`, which its data lacks.\n"


def test_the_command_shows_a_types_texts(capsys: pytest.CaptureFixture[str]) -> None:
    data = '{"lead_id": "7", "lead_name": "Initech"}'
    assert run(catalog_app, ["preview", "lead.created", "--data", data, "--json"]) == 0
    assert capsys.readouterr().out == (
        '{"audience":"role sales_manager (own tenant), but not the actor","title":"New Lead",'
        '"message":"Initech is a new lead.","actionUrl":"/leads/7","metadata":{"leadId":"7","leadName":"Initech"}}\n'
    )
    assert run(catalog_app, ["preview", "lead.created", "--data", "{}"]) == 1
    assert "lead_id is required" in capsys.readouterr().err


def test_the_command_lists_the_types_of_a_domain(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(catalog_app, ["list", "--domain", "auth"]) == 0
    assert "auth.login_failed" in capsys.readouterr().out
    assert run(catalog_app, ["list", "--domain", "weather"]) == 1
    assert "There is no domain `weather`" in capsys.readouterr().err
