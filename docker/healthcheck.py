# ruff: noqa: INP001  # a script, no part of a package
"""The image's health check: is the daemon alive? Exits 0 if `/livez` says so, else 1.

Alive, not ready: a container that copies its tables for hours, or waits for a database, is well. It
reads the settings as the daemon does, and asks no database. With `http.listen` empty it cannot ask,
and takes the daemon's being there for its health.
"""

import http.client
import sys

from cdc.settings import load_settings

_TIMEOUT_S = 5.0
_EVERYWHERE = {"0.0.0.0": "127.0.0.1", "::": "::1"}  # noqa: S104  # asked there, not listened


def main() -> int:
    """Ask once."""
    settings = load_settings().settings.http
    if not settings.listen:
        return 0
    host, _, port = settings.listen.rpartition(":")
    host = host.strip("[]")
    headers = {}
    if settings.token is not None:
        headers["Authorization"] = f"Bearer {settings.token.get_secret_value()}"
    connection = http.client.HTTPConnection(
        _EVERYWHERE.get(host, host), int(port), timeout=_TIMEOUT_S
    )
    try:
        connection.request("GET", "/livez", headers=headers)
        answer = connection.getresponse()
        sys.stdout.write(answer.read().decode(errors="replace"))
    except OSError as ex:
        sys.stdout.write(f"{settings.listen}: {ex}\n")
        return 1
    return 0 if answer.status == http.HTTPStatus.OK else 1


if __name__ == "__main__":
    sys.exit(main())
