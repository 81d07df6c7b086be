"""deploy/kubernetes: built by Kustomize, and held to what must be so of every container, selector, key and policy.
Where there is no kubectl, the files are read as they stand, without Kustomize's own checks."""

from __future__ import annotations

import itertools
import shutil
import subprocess
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.deploy.told import FOREIGN, NEEDED, RESERVED, check_command, check_variables, pool_of

ROOT = Path(__file__).parents[2] / "deploy" / "kubernetes"
OVERLAYS = ("small", "production")
WORKLOADS = ("Deployment", "StatefulSet", "Job")
OURS = ("gateway", "worker", "engine", "migrate")
Object = dict[str, Any]

needs_kubectl = pytest.mark.skipif(shutil.which("kubectl") is None, reason="kubectl is not installed")


@cache
def read(overlay: str) -> tuple[Object, ...]:
    """What the base and this overlay have, without Kustomize: generated names, labels and patches are as written."""
    found: list[Object] = []
    for folder in (ROOT / "base", ROOT / "overlays" / overlay):
        kustomization = yaml.safe_load((folder / "kustomization.yaml").read_text())
        for name in kustomization["resources"]:
            if name.endswith(".yaml"):
                found += [each for each in yaml.safe_load_all((folder / name).read_text()) if each]
    return tuple(found)


def built(overlay: str, folder: Path, secrets: str | None = None) -> list[Object]:
    """By `kubectl kustomize`, offline, with these secrets instead of the placeholders."""
    shutil.copytree(ROOT, folder / "k")
    place = folder / "k" / "overlays" / overlay
    (place / "secrets.env").write_text(secrets or (place / "secrets.env.example").read_text())
    done = subprocess.run(["kubectl", "kustomize", str(place)], capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    return [each for each in yaml.safe_load_all(done.stdout) if each]


def pods(objects: Iterator[Object] | list[Object] | tuple[Object, ...]) -> Iterator[tuple[str, Object, Object]]:
    """(kind/name, the workload, its pod's spec)."""
    for each in objects:
        if each["kind"] in WORKLOADS:
            yield f"{each['kind']}/{each['metadata']['name']}", each, each["spec"]["template"]["spec"]


def component(workload: Object) -> str:
    return str(workload["spec"]["template"]["metadata"]["labels"]["app.kubernetes.io/component"])


def pairs(overlay: str, name: str) -> dict[str, str]:
    """A file of variables."""
    path = (ROOT / "base" if name == "base" else ROOT / "overlays" / overlay) / (
        "settings.env" if name == "base" else name
    )
    return dict(line.split("=", 1) for line in path.read_text().splitlines() if "=" in line)  # type: ignore[misc]


@pytest.mark.parametrize("overlay", OVERLAYS)
def test_every_container_is_confined_bounded_and_asked(overlay: str) -> None:
    seen = []
    for name, workload, pod in pods(read(overlay)):
        seen.append(component(workload))
        context = pod["securityContext"]
        assert context["runAsNonRoot"] is True and context["runAsUser"] > 0, name
        assert context["seccompProfile"] == {"type": "RuntimeDefault"}, name
        assert pod["automountServiceAccountToken"] is False and pod["serviceAccountName"] == "cosygate", name
        assert not {"hostNetwork", "hostPID", "hostIPC"} & set(pod), name
        for container in pod["containers"]:
            own = container["securityContext"]
            assert own["allowPrivilegeEscalation"] is False and own["readOnlyRootFilesystem"] is True, name
            assert own["capabilities"] == {"drop": ["ALL"]}, name
            assert set(container["resources"]) == {"requests", "limits"}, name
            for bounds in container["resources"].values():
                assert {"cpu", "memory"} <= set(bounds), name
            assert ":latest" not in container["image"], name
            if workload["kind"] != "Job":
                assert {"startupProbe", "readinessProbe", "livenessProbe"} <= set(container), name
            mounted = {mount["name"] for mount in container["volumeMounts"]}
            claimed = {each["metadata"]["name"] for each in workload["spec"].get("volumeClaimTemplates", [])}
            assert mounted == {volume["name"] for volume in pod["volumes"]} | claimed, name
            ports = {port["name"] for port in container.get("ports", [])}
            for probe in ("startupProbe", "readinessProbe", "livenessProbe"):
                if "httpGet" in container.get(probe, {}):
                    assert container[probe]["httpGet"]["port"] in ports, name
    assert set(OURS) <= set(seen)


@pytest.mark.parametrize("overlay", OVERLAYS)
def test_probes_ask_what_they_should(overlay: str) -> None:
    asked = {
        component(workload): {
            probe: next(iter(pod["containers"][0][probe].items()))
            for probe in ("startupProbe", "readinessProbe", "livenessProbe")
            if probe in pod["containers"][0]
        }
        for _, workload, pod in pods(read(overlay))
    }
    told = {kind: {probe: how for probe, (how, _) in each.items()} for kind, each in asked.items()}
    assert set(told["engine"].values()) == {"grpc"} and set(told["gateway"].values()) == {"httpGet"}
    paths = {probe: where["path"] for probe, (_, where) in asked["gateway"].items()}
    # /readyz fails on all of them at once when the database is away: the Service would be empty.
    assert paths == dict.fromkeys(("startupProbe", "readinessProbe", "livenessProbe"), "/health")
    assert {where["path"] for _, where in asked["worker"].values()} == {"/health"}
    assert {where["port"] for _, where in asked["engine"].values()} == {50051}


def test_the_database_is_asked_by_tcp() -> None:
    """On its Unix socket it answers while the image makes the database, before it is stopped once more."""
    (container,) = next(pod["containers"] for _, each, pod in pods(read("small")) if component(each) == "postgres")
    for probe in ("startupProbe", "readinessProbe", "livenessProbe"):
        argv = container[probe]["exec"]["command"]
        assert argv[argv.index("-h") + 1] == "127.0.0.1", probe


def test_postgres_has_as_many_connections_as_all_of_them_may_open() -> None:
    """In a rollout, too, when the old ones end while the new ones begin."""
    kept = {component(each): (each, pod) for _, each, pod in pods(read("small"))}
    told = pairs("small", "base") | pairs("small", "settings.env")
    argv = " ".join(kept["postgres"][1]["containers"][0]["args"])
    most = int(argv.split("max_connections=")[1].split()[0])
    processes = {"gateway": told.get("COSYGATE_WORKERS", "1"), "worker": told["COSYGATE_WORKER_PROCESSES"]}
    usual = sum(kept[kind][0]["spec"]["replicas"] * int(many) for kind, many in processes.items())
    said = (ROOT / "overlays" / "small" / "settings.env").read_text()
    for number in (usual * pool_of(told), (2 * usual + 1) * pool_of(told)):
        assert str(number) in said
        assert number + RESERVED <= most


def test_production_says_how_many_connections_it_may_open() -> None:
    told = pairs("production", "base") | pairs("production", "settings.env")
    bounds = {
        each["spec"]["scaleTargetRef"]["name"]: each["spec"].get("maxReplicas") or each["spec"]["maxReplicaCount"]
        for each in read("production")
        if each["kind"] in ("HorizontalPodAutoscaler", "ScaledObject")
    }
    assert (told.get("COSYGATE_WORKERS", "1"), told["COSYGATE_WORKER_PROCESSES"]) == ("1", "1")
    usual = bounds["cosygate-gateway"] + bounds["cosygate-worker"]
    said = (ROOT / "overlays" / "production" / "settings.env").read_text()
    for number in (usual * pool_of(told), (2 * usual + 1) * pool_of(told)):
        assert str(number) in said


@pytest.mark.parametrize("overlay", OVERLAYS)
def test_every_command_and_setting_is_real(overlay: str) -> None:
    for _, workload, pod in pods(read(overlay)):
        (container,) = pod["containers"]
        if component(workload) in OURS:
            check_command(container["args"])
            check_variables({each["name"]: each["value"] for each in container.get("env", [])})
    settings = pairs(overlay, "base") | pairs(overlay, "settings.env")
    check_variables(settings)
    assert set(settings) | set(pairs(overlay, "secrets.env.example")) >= NEEDED


@pytest.mark.parametrize("overlay", OVERLAYS)
def test_every_key_that_is_asked_for_exists(overlay: str) -> None:
    secrets = set(pairs(overlay, "secrets.env.example"))
    for name, workload, pod in pods(read(overlay)):
        for container in pod["containers"]:
            for each in container.get("env", []):
                if "valueFrom" in each:
                    asked = each["valueFrom"]["secretKeyRef"]
                    assert asked["name"] == "cosygate-secrets" and asked["key"] in secrets, name
            sources = {next(iter(each.values()))["name"] for each in container.get("envFrom", [])}
            wanted = {"gateway", "worker", "migrate"}
            expected = {"cosygate-settings", "cosygate-secrets"} if component(workload) in wanted else set()
            assert sources == expected, f"{name}: an engine, or a service of others, gets no secrets"


@pytest.mark.parametrize("overlay", OVERLAYS)
def test_placeholders_keep_everything_from_starting(overlay: str) -> None:
    """Each secret of ours is refused by the settings, or by what checks them, as it stands in the example."""
    from cosygate.settings import Settings
    from cosygate.wiring.secrets import jwt_secret

    for name, value in pairs(overlay, "secrets.env.example").items():
        if name in FOREIGN:
            assert value in ("CHANGE-ME", "cosygate"), name
            continue
        told: dict[str, Any] = {name.removeprefix("COSYGATE_").lower(): value}
        with pytest.raises(ValueError):
            settings = Settings(**({"database_url": "postgresql://a/b"} if "BROKER" in name else {}) | told)
            if name == "COSYGATE_JWT_SECRET":  # it is looked at when it is used
                jwt_secret(settings)


@pytest.mark.parametrize("overlay", OVERLAYS)
def test_there_is_time_to_drain(overlay: str) -> None:
    drain = float(pairs(overlay, "base")["COSYGATE_DRAIN_S"])
    for _, workload, pod in pods(read(overlay)):
        (container,) = pod["containers"]
        grace = float(pod.get("terminationGracePeriodSeconds", 30))
        before = float(container.get("lifecycle", {}).get("preStop", {}).get("exec", {"command": [0, 0]})["command"][1])
        args = container.get("args", [])
        if component(workload) in ("gateway", "worker"):
            assert grace >= before + drain + 15
        if component(workload) == "engine":
            assert grace >= before + float(args[args.index("--grace") + 1]) + 10
            assert before > 5.0, "callers look the name up every five seconds"


def chosen(selector: Object, known: set[str]) -> set[str]:
    """The components that a policy's selector picks."""
    if not selector:
        return known
    values = set(selector.get("matchLabels", {}).values())
    assert set(selector.get("matchLabels", {})) <= {"app.kubernetes.io/component"}
    for each in selector.get("matchExpressions", []):
        assert (each["key"], each["operator"]) == ("app.kubernetes.io/component", "In")
        values |= set(each["values"])
    assert values <= known, f"{values - known} has no pods"
    return values


def flows(policies: list[Object], direction: str, known: set[str]) -> set[tuple[str, str, int]]:
    """(from, to, port) that the rules of this direction allow between pods of ours."""
    found = set()
    for policy in policies:
        for rule in policy.get(direction, []):
            for peer in rule["from" if direction == "ingress" else "to"]:
                there = chosen(peer["podSelector"], known) if "podSelector" in peer else set()
                ends = itertools.product(chosen(policy["podSelector"], known), there)
                both = [(b, a) if direction == "ingress" else (a, b) for a, b in ends]
                found |= {(a, b, port["port"]) for a, b in both for port in rule["ports"]}
    return {flow for flow in found if PORTS.get(flow[1]) == flow[2]}


PORTS = {"gateway": 8000, "worker": 9100, "engine": 50051, "postgres": 5432, "redis": 6379, "store": 9000}


@pytest.mark.parametrize("overlay", OVERLAYS)
def test_who_may_talk_to_whom(overlay: str) -> None:
    """All is refused, and then as much is allowed as each needs: whoever may send may also arrive."""
    every = {each["metadata"]["name"]: each["spec"] for each in read(overlay) if each["kind"] == "NetworkPolicy"}
    assert every.pop("cosygate-nobody") == {"podSelector": {}, "policyTypes": ["Ingress", "Egress"]}
    known = {component(workload) for _, workload, _ in pods(read(overlay))}
    policies = list(every.values())
    sent, taken = flows(policies, "egress", known), flows(policies, "ingress", known)
    assert sent == taken
    wanted = {(a, "engine", 50051) for a in ("gateway", "worker")}
    if overlay == "small":
        services = itertools.product(("gateway", "worker", "migrate"), ("postgres", "redis", "store"))
        wanted |= {(a, b, PORTS[b]) for a, b in services}
    assert sent == wanted, "an engine, above all, calls nobody"


@pytest.mark.parametrize("overlay", OVERLAYS)
def test_the_world_is_reached_by_https_alone_and_is_not_ours(overlay: str) -> None:
    policies = [each["spec"] for each in read(overlay) if each["kind"] == "NetworkPolicy"]
    rules = [rule for policy in policies for rule in policy.get("egress", [])]
    open_ones = [rule for rule in rules for peer in rule["to"] if peer.get("ipBlock", {}).get("cidr") == "0.0.0.0/0"]
    (rule,) = open_ones
    assert {"10.0.0.0/8", "172.16.0.0/12", "192.168.0.0/16", "169.254.0.0/16"} <= set(
        rule["to"][0]["ipBlock"]["except"]
    )
    assert [port["port"] for port in rule["ports"]] == [443]


@pytest.mark.parametrize("overlay", OVERLAYS)
def test_every_selector_finds_pods_and_every_service_its_port(overlay: str) -> None:
    every = read(overlay)
    labels = {
        component(workload): {port["name"] for container in pod["containers"] for port in container.get("ports", [])}
        for _, workload, pod in pods(every)
    }
    for each in every:
        if each["kind"] == "Service":
            chosen = each["spec"]["selector"]["app.kubernetes.io/component"]
            for port in each["spec"]["ports"]:
                assert port["targetPort"] in labels[chosen]
        if each["kind"] == "PodDisruptionBudget":
            assert each["spec"]["selector"]["matchLabels"]["app.kubernetes.io/component"] in labels
            assert each["spec"]["maxUnavailable"] == 1
        if each["kind"] in ("Deployment", "StatefulSet"):
            assert each["spec"]["selector"]["matchLabels"] == {"app.kubernetes.io/component": component(each)}
            for spread in each["spec"]["template"]["spec"].get("topologySpreadConstraints", []):
                assert spread["labelSelector"] == each["spec"]["selector"]
    budgets = {each["metadata"]["name"] for each in every if each["kind"] == "PodDisruptionBudget"}
    assert budgets == {"cosygate-gateway", "cosygate-worker", "cosygate-engine"}


def test_engines_are_found_one_by_one() -> None:
    (service,) = [
        each for each in read("small") if each["metadata"]["name"] == "cosygate-engine" and each["kind"] == "Service"
    ]
    assert service["spec"]["clusterIP"] == "None"
    assert pairs("small", "base")["COSYGATE_ENGINE_ADDRESSES"] == "dns:cosygate-engine:50051"


def test_numbers_follow_the_load() -> None:
    every = read("production")
    names = {each["metadata"]["name"] for each in every if each["kind"] == "Deployment"}
    scaled = {
        each["spec"]["scaleTargetRef"]["name"]: each
        for each in every
        if each["kind"] in ("HorizontalPodAutoscaler", "ScaledObject")
    }
    assert set(scaled) == names
    assert scaled["cosygate-gateway"]["kind"] == "HorizontalPodAutoscaler"
    from cosygate.kit.metrics import NAMES

    for name in ("cosygate-worker", "cosygate-engine"):
        queries = [trigger["metadata"]["query"] for trigger in scaled[name]["spec"]["triggers"]]
        assert "max(cv_engine_queue_len)" in queries
        for query in queries:
            assert query.split("(")[1].rstrip(")") in NAMES, query


@needs_kubectl
@pytest.mark.parametrize("overlay", OVERLAYS)
def test_kustomize_builds_it(overlay: str, tmp_path: Path) -> None:
    """With names generated, labels put on and patches applied: what refers to one another still does."""
    every = built(overlay, tmp_path)
    assert len(every) > 20
    names = {(each["kind"], each["metadata"]["name"]) for each in every}
    for each in every:
        if each["kind"] != "Namespace":
            assert each["metadata"]["namespace"] == "cosygate", each["metadata"]["name"]
    for name, workload, pod in pods(every):
        assert workload["spec"]["template"]["metadata"]["labels"].items() >= (
            workload["spec"].get("selector", {}).get("matchLabels", {}).items()
        ), name
        for container in pod["containers"]:
            for source in container.get("envFrom", []):
                for kind, key in (("ConfigMap", "configMapRef"), ("Secret", "secretRef")):
                    if key in source:
                        assert (kind, source[key]["name"]) in names, name
            assert ":" in container["image"], name
    settings = next(each for each in every if each["kind"] == "ConfigMap")["data"]
    check_variables(settings)
    deployments = [each for each in every if each["kind"] == "Deployment"]
    assert all(("replicas" in each["spec"]) == (overlay == "small") for each in deployments)


@needs_kubectl
def test_a_changed_setting_rolls_out(tmp_path: Path) -> None:
    """The generated name differs, so the pods do."""
    made = []
    for number, secrets in enumerate(("COSYGATE_JWT_SECRET=a\n", "COSYGATE_JWT_SECRET=b\n")):
        every = built("production", tmp_path / str(number), secrets)
        made.append({each["metadata"]["name"] for each in every if each["kind"] == "Secret"})
    assert len(made[0] | made[1]) == 2
