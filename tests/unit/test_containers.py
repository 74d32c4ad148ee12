"""docker-compose.yml and Dockerfile hold together without a docker engine: names, ports, variables, make targets."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path
from typing import Annotated, Any, Literal

import msgspec
import pytest
import yaml
from click.testing import CliRunner
from msgspec import Meta

from bridge.cli import main
from bridge.config import read
from providers.catalog import PROVIDERS

ROOT = Path(__file__).parents[2]
COMPOSE: dict[str, Any] = yaml.safe_load((ROOT / "docker-compose.yml").read_text(encoding="utf-8"))
SERVICES: dict[str, dict[str, Any]] = COMPOSE["services"]
OURS = {name: service for name, service in SERVICES.items() if "build" in service}


class Service(msgspec.Struct, forbid_unknown_fields=True, kw_only=True):
    """One service, with the keys of the compose specification that the file uses, in the form in which it uses them.

    Narrower than the specification's own schema, which is checked too: what that allows besides is refused until it is
    added here. Only `docker compose config` proves that an engine accepts the file.
    """

    image: Annotated[str, Meta(pattern=r"^[a-z0-9./-]+:[\w.-]+$")]
    build: Literal["."] | None = None
    command: list[str] = []
    depends_on: list[str] = []
    environment: dict[Annotated[str, Meta(pattern=r"^[A-Z][A-Z0-9_]*$")], str] = {}
    network_mode: Annotated[str, Meta(pattern=r"^(service:[\w-]+|host|none)$")] | None = None
    ports: list[Annotated[str, Meta(pattern=r"^[0-9.]+:[0-9]+:[0-9]+(/(tcp|udp))?$")]] = []
    profiles: list[Annotated[str, Meta(pattern=r"^[a-zA-Z0-9][\w.-]+$")]] = []
    restart: Annotated[str, Meta(pattern=r"^(no|always|unless-stopped|on-failure(:[0-9]+)?)$")] | None = None
    stop_grace_period: Annotated[str, Meta(pattern=r"^([0-9]+h)?([0-9]+m)?([0-9]+s)?$", min_length=2)] | None = None


class ComposeFile(msgspec.Struct, forbid_unknown_fields=True):
    """The whole file, extensions (`x-...`) left out."""

    name: Annotated[str, Meta(pattern=r"^[a-z0-9][a-z0-9_-]*$")]
    services: dict[str, Service]


KNOWN_VARIABLES = {"LIVEKIT_URL", "LIVEKIT_API_KEY", "LIVEKIT_API_SECRET", "OPENAI_BASE_URL"}
KNOWN_VARIABLES |= {secret for provider in PROVIDERS.values() for secret in provider.secrets}


def value(text: str) -> str:
    """What compose makes of `${NAME:-default}` in a clean environment."""
    return re.sub(r"\$\{\w+:-([^}]*)\}", r"\1", text)


def environment(service: dict[str, Any]) -> dict[str, str]:
    return {name: value(str(given)) for name, given in service.get("environment", {}).items()}


def without_extensions(compose: dict[str, Any]) -> dict[str, Any]:
    return {key: part for key, part in compose.items() if not key.startswith("x-")}


def by_the_schema(path: Path) -> subprocess.CompletedProcess[str]:
    """Check against the compose specification's schema, as check-jsonschema ships it."""
    command = [sys.executable, "-m", "check_jsonschema", "--builtin-schema", "vendor.compose-spec", str(path)]
    return subprocess.run(command, capture_output=True, text=True, check=False, timeout=15)


def test_the_file_keeps_the_schema_of_the_compose_specification() -> None:
    checked = by_the_schema(ROOT / "docker-compose.yml")
    assert checked.returncode == 0, checked.stdout


def test_the_schema_finds_a_misspelt_key(tmp_path: Path) -> None:
    broken = tmp_path / "docker-compose.yml"
    broken.write_text((ROOT / "docker-compose.yml").read_text(encoding="utf-8").replace("depends_on:", "depend_on:"))
    checked = by_the_schema(broken)
    assert checked.returncode == 1 and "depend_on" in checked.stdout


def test_the_file_has_the_keys_and_types_that_compose_knows() -> None:
    assert msgspec.convert(without_extensions(COMPOSE), ComposeFile).services.keys() == SERVICES.keys()


@pytest.mark.parametrize(
    "slip",
    [
        {"depend_on": ["livekit"]},
        {"command": "join --room demo"},
        {"ports": [7880]},
        {"ports": ["7880"]},
        {"environment": {"LIVEKIT_URL": 7880}},
        {"network_mode": "services:livekit"},
        {"restart": "on-failure:five"},
        {"stop_grace_period": "30"},
    ],
    ids=str,
)
def test_a_slip_in_a_service_is_found(slip: dict[str, Any]) -> None:
    broken = {**SERVICES, "bridge": {**SERVICES["bridge"], **slip}}
    with pytest.raises(msgspec.ValidationError):
        msgspec.convert({"name": "roombridge", "services": broken}, ComposeFile)


@pytest.mark.parametrize("name", SERVICES)
def test_every_image_is_pinned(name: str) -> None:
    _, _, tag = SERVICES[name]["image"].partition(":")
    assert re.fullmatch(r"v?\d+\.\d+\.\d+", tag)


def test_the_server_is_the_version_that_the_tests_run_with() -> None:
    pinned = re.search(r"^LIVEKIT_VERSION := (.+)$", (ROOT / "Makefile").read_text(), re.M)
    assert pinned and SERVICES["livekit"]["image"].endswith(f":v{pinned[1]}")


def test_published_ports_are_those_that_the_server_listens_on_and_only_local() -> None:
    config = yaml.safe_load(SERVICES["livekit"]["environment"]["LIVEKIT_CONFIG"])
    listens = {f"{config['port']}", f"{config['rtc']['tcp_port']}", f"{config['rtc']['udp_port']}/udp"}
    published = [str(port).split(":") for port in SERVICES["livekit"]["ports"]]
    assert {inner for _, _, inner in published} == listens
    assert all(host == "127.0.0.1" and inner.partition("/")[0] == outer for host, outer, inner in published)


def test_services_that_are_named_exist() -> None:
    for service in SERVICES.values():
        assert set(service.get("depends_on", [])) <= SERVICES.keys()
        network = service.get("network_mode", "")
        assert network in ("", "host") or network.removeprefix("service:") in SERVICES


def test_without_a_profile_nothing_needs_a_key() -> None:
    started = {name for name, service in SERVICES.items() if "profiles" not in service}
    assert started == {"livekit", "bridge"}
    assert environment(SERVICES["bridge"])["ROOMBRIDGE_PROVIDER"] == "scripted"


@pytest.mark.parametrize("name", OURS)
def test_every_variable_is_read_by_the_configuration(name: str) -> None:
    given = environment(OURS[name])
    assert {variable for variable in given if not variable.startswith("ROOMBRIDGE_")} <= KNOWN_VARIABLES
    read({}, given)  # refuses a ROOMBRIDGE_ variable that it does not know


@pytest.mark.parametrize("name", OURS)
def test_every_command_is_understood(name: str) -> None:
    command = [value(str(word)) for word in OURS[name]["command"]]
    done = CliRunner().invoke(main, [*command, "--help"])
    assert done.exit_code == 0
    offered = set(re.findall(r"--[a-z-]+", done.output))
    assert {word for word in command if word.startswith("--")} <= offered


def test_the_emulated_bridge_could_start() -> None:
    done = CliRunner().invoke(main, ["check", "--offline", "--room", "emulated"], env=environment(SERVICES["emulated"]))
    assert done.exit_code == 0, done.output
    port = SERVICES["emulator"]["command"][SERVICES["emulator"]["command"].index("--port") + 1]
    assert f":{port}/" in environment(SERVICES["emulated"])["OPENAI_BASE_URL"]


def test_the_page_could_be_served_where_its_callers_reach_it() -> None:
    page = SERVICES["page"]
    done = CliRunner().invoke(main, ["check", "--offline", "--serve"], env=environment(page))
    assert done.exit_code == 0, done.output
    assert page["network_mode"] == "host", "no port of a direct call could be published"
    port = re.search(r"--profile page up .* http://127\.0\.0\.1:(\d+)", (ROOT / "docker-compose.yml").read_text())
    assert port and int(port[1]) == read({}, environment(page)).serve.port


def test_both_sides_share_key_and_secret() -> None:
    keys = environment(SERVICES["livekit"])["LIVEKIT_KEYS"]
    for name in ("bridge", "page", "emulated"):
        given = environment(SERVICES[name])
        assert keys == f"{given['LIVEKIT_API_KEY']}: {given['LIVEKIT_API_SECRET']}"


def test_the_steps_of_the_image_are_make_targets_that_ci_runs() -> None:
    steps = re.findall(r"^RUN (make .*)$", (ROOT / "Dockerfile").read_text(), re.M)
    assert steps == ["make install LOCK=requirements-image.lock"]
    wanted = subprocess.run(["make", "-n", "-B", "test"], cwd=ROOT, capture_output=True, text=True, check=True).stdout
    assert "tools/make_venv .venv requirements.lock" in wanted
    image = subprocess.run(
        ["make", "-n", "-B", "install", "LOCK=requirements-image.lock"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
    ).stdout
    assert "tools/make_venv .venv requirements-image.lock" in image


def test_everything_that_the_image_copies_is_there() -> None:
    copied = re.findall(r"^COPY (?!--from)(.+) \S+$", (ROOT / "Dockerfile").read_text(), re.M)
    ignored = (ROOT / ".dockerignore").read_text().split()
    for source in " ".join(copied).split():
        assert (ROOT / source).exists()
        assert source.removeprefix("./") not in ignored


def versions(lock: str) -> dict[str, set[str]]:
    found: dict[str, set[str]] = {}
    for name, version in re.findall(r"^([a-z0-9-]+)==(\S+)", (ROOT / lock).read_text(), re.M):
        found.setdefault(name, set()).add(version)
    return found


def test_the_image_has_no_version_that_the_tests_do_not_have() -> None:
    tested = versions("requirements.lock")
    assert all(tested[name] >= image for name, image in versions("requirements-image.lock").items())


@pytest.mark.parametrize("lock", ["requirements.lock", "requirements-image.lock"])
def test_a_lock_has_hashes_and_no_addresses(lock: str) -> None:
    text = (ROOT / lock).read_text()
    assert "://" not in text and "index" not in text
    for requirement in re.split(r"\n(?=[a-z])", text.strip()):
        assert "--hash=sha256:" in requirement, requirement.splitlines()[0]
