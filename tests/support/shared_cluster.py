"""The shared topology (deploy/local_cluster) for tests that break one part of it: each gateway as a server of its own,
rows read from PostgreSQL and names from the object store, past all of them."""

from __future__ import annotations

import contextlib
import json
import xml.etree.ElementTree as ET
from collections.abc import Iterator
from typing import Any

import httpx2

from cosygate.client import Client
from deploy.local_cluster.processes import Process
from deploy.local_cluster.topology import LocalCluster
from tests.support.faults import Victim
from tests.support.services import folder


class Door(Victim):
    """One gateway, or nginx, by its address: what tests of faults ask a server for, they may ask this."""

    def __init__(self, cluster: LocalCluster, url: str) -> None:
        super().__init__(cluster.folder / "door")
        self.cluster = cluster
        self.url = url

    @property
    def secret(self) -> str:
        return self.cluster.secret

    def client(self) -> Client:
        return Client(self.url, self.token())

    def rows(self, query: str, *values: object) -> list[Any]:
        """Of PostgreSQL, each with its columns by name."""
        for value in values:
            query = query.replace("?", "'" + str(value).replace("'", "''") + "'", 1)
        told = self.cluster.postgres.sql(f"SELECT coalesce(json_agg(r), '[]') FROM ({query}) r", "cosygate")
        rows: list[Any] = json.loads(told)
        return rows

    def results_of(self, task_id: str) -> list[str]:
        return [name.rpartition("/")[2] for name in self.objects(f"/{task_id}/") if name.startswith("results/")]

    def parts_of(self, session_id: str) -> list[str]:
        """Names of the parts that are stored of an upload."""
        [row] = self.rows("SELECT id FROM uploads WHERE session_id = ?", session_id)
        names = [name.rpartition("/")[2] for name in self.objects(f"/{row['id']}/")]
        return [name for name in names if name.startswith("p")]

    def objects(self, within: str) -> list[str]:
        """Names of the store's objects that have `within` in them, in order."""
        found: list[str] = []
        asked = {"list-type": "2"}
        while True:
            page = httpx2.get(f"{self.cluster.store.endpoint}/cosygate", params=asked, timeout=20)
            tree = ET.fromstring(page.content)
            found += [each.text or "" for each in tree.iterfind("{*}Contents/{*}Key")]
            more = tree.findtext("{*}NextContinuationToken")
            if more is None:
                return sorted(name for name in found if within in name)
            asked["continuation-token"] = more


@contextlib.contextmanager
def shared_cluster(script: dict[str, Any], **settings: Any) -> Iterator[LocalCluster]:
    """Two gateways and two engines, unless `settings` say otherwise; the store is reached directly."""
    with folder() as place:
        told = place / "script.json"
        told.write_text(json.dumps(script))
        with LocalCluster(place / "data", script=told, cut_off=False, **settings) as running:
            yield running


def doors(cluster: LocalCluster) -> list[Door]:
    """Of each gateway, past nginx."""
    return [Door(cluster, gateway.url) for gateway in cluster.gateways]


def front(cluster: LocalCluster) -> Door:
    """nginx, where clients go."""
    return Door(cluster, cluster.url)


def revive(cluster: LocalCluster) -> None:
    """Every part runs, as systemd or Kubernetes would see to."""
    for part in cluster.parts():
        part.resume()
        if not part.running():
            part.kill()  # what it left
            part.start()


def log_lines(process: Process, action: str) -> list[dict[str, Any]]:
    found = [json.loads(row) for row in process.log_text().splitlines() if row.startswith("{")]
    return [line for line in found if line.get("action") == action]
