"""Whether anybody listens where the Ray cluster is said to be: asked once, before Ray waits for minutes."""

import socket
from urllib.parse import urlsplit

from nearedge_db.errors import UserError

PATIENCE_S = 4.0
CLIENT, CLIENT_PORT = "ray", 10001
"""Scheme of the addresses of Ray's client server, and the port that it has unless told otherwise."""

FOUND_BY_RAY = ("auto", "local")
"""Words in place of an address: Ray finds out itself, at once."""


def check_listens(address: str, patience_s: float = PATIENCE_S, name: str = "ray.address") -> None:
    """Connect to ``host:port`` or ``ray://host:port``; raises UserError when nobody listens there.

    ``name`` is what the user calls the address.
    """
    if address in FOUND_BY_RAY:
        return
    host, port = _host_and_port(address, name)
    try:
        socket.create_connection((host, port), timeout=patience_s).close()
    except OSError as error:
        raise UserError(
            f"no Ray cluster answers at {name}",
            got=f"{address} ({error.strerror or error})",
            fix=f"start it with `ray start --head`, mend the address, or leave {name} out",
        ) from None


def _host_and_port(address: str, name: str) -> tuple[str, int]:
    parts = urlsplit(address if "://" in address else f"//{address}")
    try:
        port = parts.port or (CLIENT_PORT if parts.scheme == CLIENT else None)
    except ValueError:
        port = None
    if parts.scheme not in ("", CLIENT) or not parts.hostname or port is None:
        raise UserError(f"{name} is no address", got=address, fix="write host:port, ray://host:port or auto")
    return parts.hostname, port
