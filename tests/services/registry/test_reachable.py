"""A tracking server that does not answer is told at once."""

import os
import socket
import threading
import time
from http.server import BaseHTTPRequestHandler, HTTPServer

import pytest

from nearedge_db.errors import UserError
from nearedge_services.registry.reachable import (
    StoreDownError,
    bound_requests,
    check_answers,
    check_store,
)


@pytest.fixture
def closed_socket():
    """A port that is taken, and where nobody listens."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        yield taken


def url(taken: socket.socket) -> str:
    return f"http://me:secret@127.0.0.1:{taken.getsockname()[1]}"


@pytest.fixture
def serve():
    """Starts a server that answers every request with a status and a body; returns its URL."""
    servers = []

    def start(status: int, body: bytes) -> str:
        class Handler(BaseHTTPRequestHandler):
            def do_GET(self):
                self.rfile.read(int(self.headers.get("Content-Length", 0)))
                self.send_response(status)
                self.send_header("Content-Type", "application/json")
                self.end_headers()
                self.wfile.write(body)

            do_POST = do_GET  # noqa: N815 - the base class names it so

            def log_message(self, *arguments):
                pass

        servers.append(HTTPServer(("127.0.0.1", 0), Handler))
        threading.Thread(target=servers[-1].serve_forever, daemon=True).start()
        return f"http://127.0.0.1:{servers[-1].server_port}"

    yield start
    for server in servers:
        server.shutdown()
        server.server_close()


def refused(uri: str, down: bool) -> str:
    with pytest.raises(UserError) as caught:
        check_answers(uri, patience_s=1)
    assert isinstance(caught.value, StoreDownError) is down
    text = str(caught.value)
    assert "\n" not in text
    assert "secret" not in text
    return text


def test_nobody_listens(closed_socket):
    started = time.monotonic()
    assert "Connection refused" in refused(url(closed_socket), down=True)
    assert time.monotonic() - started < 10


def test_a_server_that_hangs(closed_socket):
    closed_socket.listen()
    started = time.monotonic()
    assert "timed out" in refused(url(closed_socket), down=True)
    assert time.monotonic() - started < 10


@pytest.mark.parametrize(("status", "down"), [(404, False), (401, False), (500, True), (503, True)])
def test_something_else_answers(serve, status, down):
    """A wrong address, or a server in trouble: that one may come back."""
    assert str(status) in refused(serve(status, b"<html>no MLflow here</html>"), down)


def test_requests_are_bounded_unless_the_user_says_otherwise(monkeypatch):
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_TIMEOUT", "77")
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "set and taken back by the test")
    monkeypatch.delenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES")
    bound_requests()
    assert os.environ["MLFLOW_HTTP_REQUEST_TIMEOUT"] == "77"
    assert os.environ["MLFLOW_HTTP_REQUEST_MAX_RETRIES"] == "0"


def test_a_server_that_answers_is_fine(serve):
    before = dict(os.environ)
    check_answers(serve(200, b'{"experiments": []}'))
    assert dict(os.environ) == before


def test_the_variables_of_the_user_come_back(closed_socket, monkeypatch):
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_TIMEOUT", "77")
    monkeypatch.delenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", raising=False)
    refused(url(closed_socket), down=True)
    assert os.environ["MLFLOW_HTTP_REQUEST_TIMEOUT"] == "77"
    assert "MLFLOW_HTTP_REQUEST_MAX_RETRIES" not in os.environ


@pytest.mark.parametrize("uri", ["sqlite:////no/such/mlflow.db", "postgresql://host/name"])
def test_other_stores_are_not_asked(uri):
    check_answers(uri)


def unusable(uri: str) -> str:
    started = time.monotonic()
    with pytest.raises(UserError, match="MLflow store cannot be used") as caught:
        check_store(uri, patience_s=1)
    text = str(caught.value)
    assert "\n" not in text
    assert "secret" not in text
    assert time.monotonic() - started < 20
    return text


def test_a_kind_of_store_that_mlflow_does_not_know():
    assert "htp://host" in unusable("htp://host")


def test_a_database_server_that_does_not_answer(closed_socket):
    port = closed_socket.getsockname()[1]
    uri = f"postgresql+psycopg://me:secret@127.0.0.1:{port}/none"
    assert "me:***@" in unusable(uri)
    with pytest.raises(StoreDownError):
        check_store(uri, patience_s=1)


def test_a_file_that_is_no_database(tmp_path):
    path = tmp_path / "mlflow.db"
    path.write_text("nothing of the kind " * 100)
    assert "not a database" in unusable(f"sqlite:///{path}")
    assert "no file can be written there" in unusable(f"sqlite:///{path}/below/mlflow.db")
    assert "no file can be written there" in unusable(f"sqlite:///{tmp_path}")


def test_a_file_that_is_not_there_yet_is_fine_and_not_made(tmp_path):
    check_store(f"sqlite:///{tmp_path / 'below' / 'mlflow.db'}")
    assert list(tmp_path.iterdir()) == []
