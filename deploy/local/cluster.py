#!/usr/bin/env python3
"""The processes of a cluster on one machine, without containers: PostgreSQL, an MLflow server, Ray with several nodes.

    python deploy/local/cluster.py up --nodes 2 --cpus 1     # start them; prints what to set
    eval "$(python deploy/local/cluster.py env)"              # set it in this shell
    nearedge run examples/quickstart.yaml                     # or: ray job submit --working-dir . -- nearedge run …
    python deploy/local/cluster.py status
    python deploy/local/cluster.py down                       # stop them; the data stay

Everything listens on the loopback interface only, PostgreSQL on a Unix socket, and Ray asks for a token that is made
anew at every start. Needs the development requirements (`make setup`), which bring PostgreSQL as a wheel.
"""

import argparse
import contextlib
import json
import os
import secrets
import shlex
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from pathlib import Path

import psutil

PATIENCE_S = 300.0
"""How long one service may take to answer."""
ATTEMPTS = 4
"""How often a node of Ray is started: it gives up after 30 s by itself, which a busy machine may need longer than."""
OBJECT_STORE_BYTES = 200 * 1024**2
"""Of one node: models and structures are small."""
BIN = Path(sys.executable).parent

LOOPBACK = "127.0.0.1"
MEMBER = (
    "from ray._private import ray_constants, services\n"
    "ray_constants.ENABLE_RAY_CLUSTER = True\n"
    f"services.get_node_ip_address = lambda address=None: {LOOPBACK!r}\n"
    "from ray.scripts.scripts import main\n"
    "main()\n"
)
"""``ray start`` of a node that joins over loopback: by itself Ray takes the machine's outer address instead.

Ray's servers listen on loopback alone only where the node's address is literally 127.0.0.1. What a head needs for
that is ``RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER=0``, Ray's variable for desktop systems; it refuses other nodes then."""


@dataclass(frozen=True)
class Process:
    """A process that was started: its number may be another process's by now, its birth tells."""

    name: str
    pid: int
    birth: float

    @classmethod
    def of(cls, name: str, pid: int) -> "Process":
        """The process that runs under this number now."""
        return cls(name, pid, psutil.Process(pid).create_time())

    def find(self) -> psutil.Process | None:
        """The running process, or None when it has ended."""
        try:
            found = psutil.Process(self.pid)
            alive = found.create_time() == self.birth and found.status() != psutil.STATUS_ZOMBIE
        except psutil.NoSuchProcess:
            return None
        return found if alive else None


@dataclass
class Cluster:
    """What runs, where it answers, and what a user sets; kept in ``cluster.json``."""

    state: str
    temp: str
    """Ray's own files: in a short path, for the names of sockets have 107 characters at most."""
    environment: dict[str, str] = field(default_factory=dict)
    dashboard: str = ""
    processes: list[Process] = field(default_factory=list)

    @property
    def folder(self) -> Path:
        """The state directory."""
        return Path(self.state)

    def save(self) -> None:
        """Write ``cluster.json``, readable for its owner only, in one step."""
        partial = self.folder / ".cluster.json"
        partial.write_text(json.dumps(asdict(self), indent=1), encoding="utf-8")
        partial.chmod(0o600)
        partial.replace(self.folder / "cluster.json")

    @classmethod
    def load(cls, folder: Path) -> "Cluster | None":
        """What was started with this state directory; None where nothing was."""
        try:
            record = json.loads((folder / "cluster.json").read_text(encoding="utf-8"))
        except FileNotFoundError:
            return None
        return cls(**{**record, "processes": [Process(**process) for process in record["processes"]]})

    def remember(self, name: str, pid: int) -> None:
        """Add a process, at once on disk: what is not written down is not stopped."""
        self.processes.append(Process.of(name, pid))
        self.save()

    def spawn(self, name: str, command: list[str], environment: dict[str, str]) -> subprocess.Popen:
        """Start a server in a session of its own, with its output in ``logs/NAME.log``."""
        with (self.folder / "logs" / f"{name}.log").open("ab") as log:
            process = subprocess.Popen(  # noqa: S603 (our own programs)
                command,
                env=environment,
                cwd=self.folder,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        self.remember(name, process.pid)
        return process


def up(options: argparse.Namespace) -> None:
    """Start everything; what was started is stopped again when a part fails."""
    earlier = Cluster.load(options.state)
    if earlier is not None and any(process.find() for process in earlier.processes):
        raise SystemExit(
            f"error: it runs already; got {options.state}; stop it with `down`, or give another --state"
        )
    options.state.mkdir(parents=True, exist_ok=True)
    (options.state / "logs").mkdir(exist_ok=True)
    cluster = Cluster(str(options.state.resolve()), tempfile.mkdtemp(prefix="nearedge-", dir="/tmp"))
    cluster.save()
    try:
        _say("PostgreSQL")
        database = start_postgresql(cluster)
        _say("MLflow server")
        tracking = start_mlflow(cluster, database("mlflow"))
        cluster.environment = {
            "NEAREDGE_DATABASE": database("nearedge"),
            "NEAREDGE_MLFLOW": tracking,
            "NEAREDGE_RUNS": str(options.runs.absolute()),
            "RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER": "0",  # loopback: see MEMBER
            "RAY_AUTH_MODE": "token",
            "RAY_AUTH_TOKEN_PATH": str(write_token(cluster.folder / "ray_token")),
        }
        _say(f"Ray: a head and {options.nodes} more nodes of {options.cpus} CPUs")
        start_ray(cluster, options.nodes, options.cpus, json.loads(options.resources))
        cluster.save()
    except BaseException:
        stop(cluster)
        raise
    _say(f"up; logs in {cluster.folder / 'logs'}, dashboard {cluster.dashboard}; set this:")
    print_environment(cluster)


def start_postgresql(cluster: Cluster) -> Callable[[str], str]:
    """Start PostgreSQL, make the two databases if need be; returns a function from database name to URL."""
    import pgserver
    from sqlalchemy import create_engine, text

    server = pgserver.get_server(cluster.folder / "postgresql", cleanup_mode=None)
    cluster.remember("postgresql", server.get_pid())

    def url(name: str) -> str:
        return server.get_uri(name).replace("postgresql://", "postgresql+psycopg://", 1)

    admin = create_engine(url("postgres"), isolation_level="AUTOCOMMIT")
    with admin.connect() as connection:
        existing = set(connection.scalars(text("SELECT datname FROM pg_database")))
        for name in sorted({"nearedge", "mlflow"} - existing):
            connection.execute(text(f"CREATE DATABASE {name}"))
    admin.dispose()
    return url


def start_mlflow(cluster: Cluster, store: str) -> str:
    """Start an MLflow server over the PostgreSQL database ``store``; returns its tracking URI."""
    port = free_ports(1)[0]
    artifacts = cluster.folder / "mlflow-artifacts"
    command = [
        *(str(BIN / "mlflow"), "server", "--host", LOOPBACK, "--port", str(port), "--workers", "1"),
        *("--backend-store-uri", store, "--artifacts-destination", artifacts.as_uri()),
    ]
    # its workers for jobs of language models take a gigabyte, and nobody here gives them any
    environment = {**os.environ, "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false"}
    process = cluster.spawn("mlflow", command, environment)
    address = f"http://{LOOPBACK}:{port}"
    if not comes_up(lambda: _answers(f"{address}/health"), process):
        raise failure(cluster, "mlflow")
    return address


def start_ray(cluster: Cluster, nodes: int, cpus: int, resources: dict[str, float]) -> None:
    """Start the head and ``nodes`` more nodes of ``cpus`` CPUs each, and wait until all have joined."""
    gcs, dashboard, client = free_ports(3)
    address = f"{LOOPBACK}:{gcs}"
    cluster.dashboard = f"http://{LOOPBACK}:{dashboard}"
    # jobs inherit the environment of the head: `nearedge` is found, and so are the servers
    environment = {**os.environ, **cluster.environment, "PATH": f"{BIN}{os.pathsep}{os.environ['PATH']}"}
    for name in ("RAY_ADDRESS", "RAY_API_SERVER_ADDRESS", "RAY_AUTH_TOKEN"):
        environment.pop(name, None)  # of another cluster
    environment.setdefault("OMP_NUM_THREADS", "1")
    environment.setdefault(
        "RAY_JOB_STOP_WAIT_TIME_S", "3600"
    )  # for labels in flight; Ray kills after 3 s else
    head = [
        *(str(BIN / "ray"), "start", "--head", "--port", str(gcs), "--temp-dir", cluster.temp),
        *("--include-dashboard", "true", "--dashboard-host", LOOPBACK, "--dashboard-port", str(dashboard)),
        *("--ray-client-server-port", str(client), "--num-cpus", str(cpus)),
    ]
    _start_node(cluster, "ray-head", head, environment)
    for number in range(1, nodes + 1):
        member = [
            *(sys.executable, "-c", MEMBER, "start", "--address", address, "--include-log-monitor", "false"),
            *("--num-cpus", str(cpus), "--resources", json.dumps(resources)),
        ]
        _start_node(cluster, f"ray-node-{number}", member, environment)
    cluster.environment |= {"RAY_ADDRESS": address, "RAY_API_SERVER_ADDRESS": cluster.dashboard}
    alive = _alive_nodes(address, environment)
    if alive != nodes + 1:
        raise SystemExit(
            f"error: {alive} of {nodes + 1} Ray nodes have joined; see {cluster.folder / 'logs'}"
        )


def _start_node(cluster: Cluster, name: str, command: list[str], environment: dict[str, str]) -> None:
    """Start one node, with ports that nothing else on the machine has, and wait until it is up."""
    http, grpc, metrics = free_ports(3)
    options = [
        *("--block", "--disable-usage-stats", "--object-store-memory", str(OBJECT_STORE_BYTES)),
        *("--dashboard-agent-listen-port", str(http), "--dashboard-agent-grpc-port", str(grpc)),
        *("--metrics-export-port", str(metrics)),
    ]
    token = Path(environment["RAY_AUTH_TOKEN_PATH"]).read_text(encoding="ascii")
    health = f"http://{LOOPBACK}:{http}/api/local_raylet_healthz"
    for _ in range(ATTEMPTS):
        process = cluster.spawn(name, [*command, *options], environment)
        if comes_up(lambda: _answers(health, token), process):
            return
        if process.poll() is None:
            break
        cluster.processes.pop()
    raise failure(cluster, name)


def _alive_nodes(address: str, environment: dict[str, str]) -> int:
    """Nodes that the head knows to be alive."""
    code = "import ray, sys; ray.init(sys.argv[1], logging_level='ERROR'); print(sum(n['Alive'] for n in ray.nodes()))"
    command = [sys.executable, "-c", code, address]
    result = subprocess.run(command, env=environment, stdout=subprocess.PIPE, text=True, check=True)  # noqa: S603
    return int(result.stdout)


def stop(cluster: Cluster) -> None:
    """Stop what runs, Ray first, and remove Ray's files. PostgreSQL's data and the artifacts stay."""
    for service in ("ray", "mlflow", "postgresql"):
        found = [
            process
            for one in cluster.processes
            if one.name.startswith(service) and (process := one.find()) is not None
        ]
        if found:
            _say(f"stopping {service}")
            # PostgreSQL would wait for its clients to leave at SIGTERM; SIGINT is its fast shutdown
            _end(found, signal.SIGINT if service == "postgresql" else signal.SIGTERM)
    shutil.rmtree(cluster.temp, ignore_errors=True)
    for name in ("cluster.json", "ray_token"):
        (cluster.folder / name).unlink(missing_ok=True)


def _end(servers: list[psutil.Process], number: signal.Signals) -> None:
    """Ask the servers to end, and kill what is left of them and their children after a while."""
    family = list(servers)
    for server in servers:
        with contextlib.suppress(psutil.NoSuchProcess):
            family += server.children(recursive=True)
            server.send_signal(number)
    psutil.wait_procs(servers, timeout=30)
    _, alive = psutil.wait_procs(family, timeout=5)
    for survivor in alive:
        with contextlib.suppress(psutil.NoSuchProcess):
            survivor.kill()


def show_status(cluster: Cluster) -> None:
    """One line for every process."""
    for process in cluster.processes:
        sys.stdout.write(f"{process.name:12} {process.pid:8} {'runs' if process.find() else 'has ended'}\n")
    sys.stdout.write(f"dashboard    {cluster.dashboard}\n")


def print_environment(cluster: Cluster) -> None:
    """What a shell sets to use the cluster."""
    for name, value in cluster.environment.items():
        sys.stdout.write(f"export {name}={shlex.quote(value)}\n")


def write_token(path: Path) -> Path:
    """A fresh secret that only its owner can read."""
    path.unlink(missing_ok=True)
    with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as file:
        file.write(secrets.token_hex(32))
    return path


def free_ports(count: int) -> list[int]:
    """Different ports of the loopback interface on which nobody listens now."""
    with contextlib.ExitStack() as stack:
        sockets = [stack.enter_context(socket.socket()) for _ in range(count)]
        for one in sockets:
            one.bind((LOOPBACK, 0))
        return [one.getsockname()[1] for one in sockets]


def comes_up(ready: Callable[[], bool], process: subprocess.Popen) -> bool:
    """Wait until a service is ready; False when it ends, or takes too long."""
    deadline = time.monotonic() + PATIENCE_S
    while not ready():
        if process.poll() is not None or time.monotonic() > deadline:
            return False
        time.sleep(0.2)
    return True


def failure(cluster: Cluster, name: str) -> SystemExit:
    """What to raise where a service did not come up: with the end of its log."""
    log = cluster.folder / "logs" / f"{name}.log"
    tail = "\n".join(log.read_text(errors="replace").splitlines()[-20:])
    return SystemExit(f"error: {name} did not come up; see {log}:\n{tail}")


def _answers(url: str, token: str | None = None) -> bool:
    request = urllib.request.Request(url)  # noqa: S310 (http to loopback)
    if token is not None:
        request.add_header("Authorization", f"Bearer {token}")
    try:
        with urllib.request.urlopen(request, timeout=2) as answer:  # noqa: S310
            return answer.status == 200
    except OSError:
        return False


def _say(line: str) -> None:
    sys.stderr.write(f"{line}\n")


def _state_folder() -> Path:
    return Path(os.environ.get("XDG_STATE_HOME") or Path.home() / ".local" / "state") / "nearedge-local"


def _parse(arguments: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter, allow_abbrev=False
    )
    commands = parser.add_subparsers(dest="command", required=True)
    for name in ("up", "env", "status", "down"):
        command = commands.add_parser(name)
        command.add_argument("--state", type=Path, default=_state_folder(), help="where it keeps its data")
        if name == "up":
            command.add_argument("--nodes", type=int, default=2, help="Ray nodes beside the head")
            command.add_argument("--cpus", type=int, default=1, help="CPUs that each node offers")
            command.add_argument(
                "--resources", default="{}", help="custom resources of each node but the head, as JSON"
            )
            command.add_argument(
                "--runs", type=Path, default=Path("runs"), help="where campaigns leave their results"
            )
    return parser.parse_args(arguments)


def main(arguments: list[str] | None = None) -> None:
    """Run one command."""
    options = _parse(arguments)
    if options.command == "up":
        signal.signal(
            signal.SIGTERM, signal.default_int_handler
        )  # ends as Ctrl-C does: all that was started is stopped
        up(options)
        return
    cluster = Cluster.load(options.state)
    if cluster is None:
        raise SystemExit(f"error: nothing runs here; got {options.state}; start it with `up`")
    {"env": print_environment, "status": show_status, "down": stop}[options.command](cluster)


if __name__ == "__main__":
    main()
