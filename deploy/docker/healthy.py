"""Exit status 0 when it answers that all is well: for HEALTHCHECK, in images without curl.

healthy.py http://127.0.0.1:8000/health
healthy.py grpc://127.0.0.1:50051      grpc.health.v1; an engine that takes TLS needs its CA in COSYGATE_ENGINE_TLS_CA,
                                       and the name in its certificate as ?name=…; one that wants callers' certificates
                                       their files in COSYGATE_ENGINE_TLS_CERT and COSYGATE_ENGINE_TLS_KEY
"""

import os
import sys
import urllib.request
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

_TIMEOUT_S = 4.0


def over_http(url: str) -> bool:
    with urllib.request.urlopen(url, timeout=_TIMEOUT_S) as answer:
        return bool(answer.status == 200)


def over_grpc(url: str) -> bool:
    import grpc
    from grpc_health.v1 import health_pb2, health_pb2_grpc

    parts = urlsplit(url)
    ca, cert, key = (os.environ.get(f"COSYGATE_ENGINE_TLS_{name}", "") for name in ("CA", "CERT", "KEY"))
    if ca:
        own = (Path(key).read_bytes(), Path(cert).read_bytes()) if cert else (None, None)
        name = parse_qs(parts.query).get("name", [parts.hostname or ""])[0]
        channel = grpc.secure_channel(
            parts.netloc,
            grpc.ssl_channel_credentials(Path(ca).read_bytes(), *own),
            [("grpc.ssl_target_name_override", name)],
        )
    else:
        channel = grpc.insecure_channel(parts.netloc)
    with channel:
        answer = health_pb2_grpc.HealthStub(channel).Check(health_pb2.HealthCheckRequest(), timeout=_TIMEOUT_S)
    return bool(answer.status == health_pb2.HealthCheckResponse.SERVING)


def main(url: str) -> int:
    try:
        return 0 if (over_grpc if url.startswith("grpc:") else over_http)(url) else 1
    except Exception as error:
        print(f"{url}: {type(error).__name__}", file=sys.stderr)
        return 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1]))
