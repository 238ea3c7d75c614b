"""`python -m api_providers.sandbox`: the twins as a process of their own, which says on stderr when it is ready."""

import argparse
import asyncio
import sys
from pathlib import Path

from api_providers.sandbox.app import serve
from router.contract.errors import ServerTrouble


def main() -> int:
    """Serve until a signal; 1 when it cannot."""
    parser = argparse.ArgumentParser(prog="python -m api_providers.sandbox", description=__doc__)
    parser.add_argument("--host", default="127.0.0.1")
    parser.add_argument("--port", type=int, default=8787, help="0 means any free port")
    parser.add_argument("--tls-port", type=int, help="serve the same over TLS; 0 means any free port")
    parser.add_argument("--tls-ca", type=Path, help="where to write the CA certificate of the TLS port")
    asked = parser.parse_args()
    try:
        asyncio.run(
            serve(asked.host, asked.port, tls_port=asked.tls_port, tls_ca=asked.tls_ca, on_ready=_say_ready)
        )
    except ServerTrouble as error:
        sys.stderr.write(f"{error.message}\n")
        return 1
    return 0


def _say_ready(url: str, tls_url: str | None) -> None:
    sys.stderr.write(f"ready {url}{f' {tls_url}' if tls_url else ''}\n")
    sys.stderr.flush()


if __name__ == "__main__":
    sys.exit(main())
