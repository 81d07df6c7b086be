"""deploy/systemd: systemd itself reads the units, and what they run and set is real."""

from __future__ import annotations

import configparser
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.deploy.told import NEEDED, check_command, check_variables

FOLDER = Path(__file__).parents[2] / "deploy" / "systemd"
UNITS = sorted(FOLDER.glob("*.service"))
PROGRAM = "/opt/cosygate/bin/"


class _Every(dict[str, object]):
    """Keys that come twice, each with its number."""

    def __setitem__(self, key: str, value: object) -> None:
        while key in self and isinstance(value, list):
            key += "'"
        super().__setitem__(key, value)


def service(unit: Path) -> dict[str, str]:
    parser = configparser.RawConfigParser(strict=False, delimiters=("=",), interpolation=None, dict_type=_Every)
    parser.optionxform = str  # type: ignore[assignment,method-assign]
    parser.read_string(unit.read_text())
    return dict(parser["Service"])


def variables(path: Path) -> dict[str, str]:
    lines = (line for line in path.read_text().splitlines() if "=" in line and not line.startswith("#"))
    return {name: value.strip('"') for name, value in (line.split("=", 1) for line in lines)}


def test_there_is_one_for_each_process() -> None:
    assert {unit.stem for unit in UNITS} == {
        "cosygate-gateway",
        "cosygate-worker@",
        "cosygate-engine@",
        "cosygate-migrate",
    }


@pytest.mark.parametrize("unit", UNITS, ids=lambda unit: unit.stem)
def test_what_it_runs_is_a_command(unit: Path) -> None:
    argv = service(unit)["ExecStart"].split()
    assert argv[0] == f"{PROGRAM}cosygate"
    check_command(argv[1:])
    for key, value in service(unit).items():
        if key.startswith("Environment") and not key.startswith("EnvironmentFile"):
            for name, told in re.findall(r'(\w+)=("[^"]*"|\S+)', value):
                check_variables({name: told.replace("%i", "1")})


@pytest.mark.parametrize("unit", UNITS, ids=lambda unit: unit.stem)
def test_it_is_confined_as_far_as_the_sandbox_lets(unit: Path) -> None:
    told = service(unit)
    for key in (
        "NoNewPrivileges",
        "PrivateTmp",
        "PrivateDevices",
        "ProtectKernelModules",
        "ProtectHome",
        "RestrictSUIDSGID",
    ):
        assert told[key] == "yes", key
    assert told["ProtectSystem"] == "strict" and told["CapabilityBoundingSet"] == "" and told["User"] == "cosygate"
    decodes = "gateway" in unit.stem or "worker" in unit.stem
    # lockdown.py: unshare of these three, Landlock, seccomp, capset, and if_nameindex, which asks by netlink.
    assert told["RestrictNamespaces"] == ("user net ipc" if decodes else "yes")
    for call in ("landlock_create_ruleset", "landlock_restrict_self", "seccomp"):
        assert (call in told["SystemCallFilter"]) == decodes
    assert "AF_NETLINK" in told["RestrictAddressFamilies"]
    if unit.stem == "cosygate-engine@":
        assert told["IPAddressDeny"] == "any"
        assert "cosygate.env" not in str(told), "an engine gets no secret"


def test_there_is_time_to_drain() -> None:
    drain = float(variables(FOLDER / "cosygate.env.example")["COSYGATE_DRAIN_S"])
    for name in ("cosygate-gateway", "cosygate-worker@"):
        assert float(service(FOLDER / f"{name}.service")["TimeoutStopSec"]) >= drain + 30
    engine = service(FOLDER / "cosygate-engine@.service")
    grace = re.search(r"--grace (\d+)", engine["ExecStart"])
    assert grace and float(engine["TimeoutStopSec"]) >= float(grace[1]) + 10


def test_the_example_is_whole_and_starts_nothing_as_it_stands() -> None:
    from cosygate.settings import Settings

    told = variables(FOLDER / "cosygate.env.example")
    assert set(told) >= NEEDED
    check_variables({name: value for name, value in told.items() if "CHANGE-ME" not in value})
    for name in ("DATABASE_URL", "REDIS_URL", "BROKER_URL"):
        with pytest.raises(ValueError):
            Settings(**{name.lower(): told[f"COSYGATE_{name}"]})  # type: ignore[arg-type]  # pydantic checks them
    options = variables(FOLDER / "engine.env.example")["ENGINE_OPTIONS"]
    check_command(["engine", *options.split()])


@pytest.mark.skipif(shutil.which("systemd-analyze") is None, reason="systemd-analyze is not installed")
def test_systemd_takes_them(tmp_path: Path) -> None:
    """It only warns of a key that it does not know, so it must not say anything. And each is rated as well confined."""
    ours = Path(sys.executable).parent
    for unit in UNITS:
        (tmp_path / unit.name).write_text(unit.read_text().replace(PROGRAM, f"{ours}/"))
    for unit in UNITS:
        name = unit.name.replace("@.", "@1.")
        done = subprocess.run(
            ["systemd-analyze", "verify", "--man=no", f"./{name}"], cwd=tmp_path, capture_output=True, text=True
        )
        assert done.returncode == 0 and not done.stderr.strip(), done.stderr
        rated = subprocess.run(
            ["systemd-analyze", "security", "--offline=yes", "--no-pager", "--threshold=25", f"./{unit.name}"],
            cwd=tmp_path, capture_output=True, text=True,
        )  # fmt: skip
        assert rated.returncode == 0, rated.stdout[-300:]


@pytest.mark.skipif(shutil.which("systemd-sysusers") is None, reason="systemd-sysusers is not installed")
def test_the_user_is_made(tmp_path: Path) -> None:
    (tmp_path / "etc").mkdir()
    done = subprocess.run(
        ["systemd-sysusers", f"--root={tmp_path}", str(FOLDER / "cosygate.sysusers.conf")],
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    assert re.search(r"^cosygate:.*:/var/lib/cosygate:/usr/sbin/nologin$", (tmp_path / "etc/passwd").read_text(), re.M)
