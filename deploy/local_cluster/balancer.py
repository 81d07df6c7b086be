"""nginx in front of the gateways, with deploy/nginx/cosygate.conf as it is, but for addresses, port and log."""

from __future__ import annotations

import os
import re
import shutil
import signal
from collections.abc import Sequence
from pathlib import Path

from deploy.local_cluster.services import HOST, NotThere, Service

CONFIGURATION = Path(__file__).absolute().parents[1] / "nginx" / "cosygate.conf"
_UPSTREAM = re.compile(r"^(upstream \w+ \{\n)(.*?)^\}", re.MULTILINE | re.DOTALL)
_SERVER = re.compile(r"^    server \S+( .*)?;\n", re.MULTILINE)
_LISTEN = re.compile(r"^    listen 80 ", re.MULTILINE)
_LOG = "/var/log/nginx/access.log"
_MAIN = """
daemon off;
worker_processes 1;
worker_rlimit_nofile 16384;
worker_shutdown_timeout 5s;
pid {folder}/nginx.pid;
error_log {folder}/nginx.log warn;
{user}
events {{ worker_connections 8192; }}
http {{
    client_body_temp_path {folder}/body;
    proxy_temp_path {folder}/proxy;
    fastcgi_temp_path {folder}/fastcgi;
    uwsgi_temp_path {folder}/uwsgi;
    scgi_temp_path {folder}/scgi;
    include {folder}/cosygate.conf;
}}
"""


class Nginx(Service):
    """`gateways`: their `host:port`. Changed, it takes `reload`."""

    name = "nginx"
    ends_with = signal.SIGQUIT  # requests that run end first, for `worker_shutdown_timeout`
    orphaned = signal.SIGTERM  # to the master, who ends its workers; killed, it would leave them

    def __init__(self, folder: Path, gateways: Sequence[str], port: int = 0) -> None:
        super().__init__(folder, port)
        self.gateways = list(gateways)
        self.access_log = folder / "access.log"

    @property
    def url(self) -> str:
        return f"http://{HOST}:{self.port}"

    def command(self) -> Sequence[str]:
        return [program(), *self._where()]

    def _where(self) -> Sequence[str]:
        return ["-p", str(self.folder), "-c", str(self.folder / "nginx.conf"), "-e", str(self.log)]

    def prepare(self) -> None:
        text = rendered(CONFIGURATION.read_text(), self.gateways, f"{HOST}:{self.port}", self.access_log)
        (self.folder / "cosygate.conf").write_text(text)
        # As whoever starts it: its folder is nobody else's.
        user = "user root;" if os.geteuid() == 0 else ""
        (self.folder / "nginx.conf").write_text(_MAIN.format(folder=self.folder, user=user))

    def reload(self) -> None:
        """The configuration anew, without a connection lost."""
        self.prepare()
        self._signal(signal.SIGHUP, whole=False)


def program() -> str:
    """Debian keeps it where only root looks. Raises NotThere."""
    found = shutil.which("nginx", path=f"{os.environ.get('PATH', '')}:/usr/sbin")
    if found is None:
        raise NotThere("nginx is not installed")
    return found


def rendered(text: str, gateways: Sequence[str], listen: str, log: Path) -> str:
    """The configuration for these gateways. Raises ValueError when it is not written as we know it."""

    def servers(match: re.Match[str]) -> str:
        written = list(_SERVER.finditer(match[2]))
        if not written:
            raise ValueError("an upstream without a server")
        ours = "".join(f"    server {gateway}{written[0][1] or ''};\n" for gateway in gateways)
        head, tail = match[2][: written[0].start()], match[2][written[-1].end() :]
        return f"{match[1]}{head}{ours}{tail}}}"

    text, upstreams = _UPSTREAM.subn(servers, text)
    text, listens = _LISTEN.subn(f"    listen {listen} ", text)
    if upstreams != 3 or listens != 1 or _LOG not in text:
        raise ValueError("cosygate.conf has other upstreams, listen or access_log than this program knows")
    return text.replace(_LOG, str(log))
