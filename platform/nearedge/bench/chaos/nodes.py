"""A Ray head and one more node on the loopback interface: ``python -m nearedge.bench.chaos.nodes CPUS``.

A process of its own, because Ray reads its environment when it is imported. It answers every line of its standard
input by a line of JSON, and ends with all nodes when the input does.
"""

import json
import os
import socket
import sys
from contextlib import ExitStack
from typing import Any

import psutil
from ray.cluster_utils import Cluster

LOOPBACK = "127.0.0.1"
PORTS = ("metrics_agent_port", "metrics_export_port", "runtime_env_agent_port", "dashboard_agent_listen_port")
"""Of the agents of a node."""
KILL = "kill the other node"


class Nodes:
    """The cluster. Both nodes have room for all actors, so that one can take over what the other had."""

    def __init__(self, cpus: float) -> None:
        """Start the head and the other node, of ``cpus`` CPUs each by their own account."""
        self.cluster = Cluster(initialize_head=True, head_node_args=_options(cpus))
        self.other = self.cluster.add_node(**_options(cpus))

    def kill_other_node(self) -> list[int]:
        """Kill every process of the node that is not the head, as if its machine had failed; their numbers."""
        servers = [
            psutil.Process(one.process.pid) for ones in self.other.all_processes.values() for one in ones
        ]
        family = [*servers, *(child for server in servers for child in server.children(recursive=True))]
        for process in family:
            kill(process)
        self.cluster.remove_node(self.other, allow_graceful=False)
        return [process.pid for process in family]


def _options(cpus: float) -> dict[str, Any]:
    """Of one node. A raylet that is told no ports of its agents waits 15 s for them to choose, and dies then."""
    with ExitStack() as stack:
        sockets = [stack.enter_context(socket.socket()) for _ in PORTS]
        for one in sockets:
            one.bind((LOOPBACK, 0))
        ports = {name: one.getsockname()[1] for name, one in zip(PORTS, sockets, strict=True)}
    return {"num_cpus": cpus, "node_ip_address": LOOPBACK, "include_dashboard": False, **ports}


def kill(process: psutil.Process) -> bool:
    """``kill -9``; False where it has ended already."""
    try:
        process.kill()
    except psutil.NoSuchProcess:
        return False
    return True


def main() -> None:
    """Start the nodes, say where, and do what is asked for until the input ends."""
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # what Ray prints is no answer
    nodes = Nodes(float(sys.argv[1]))
    try:
        _say(answers, nodes.cluster.address)
        for line in sys.stdin:
            if line.strip() != KILL:
                raise ValueError(f"unknown request {line!r}")
            _say(answers, nodes.kill_other_node())
    finally:
        nodes.cluster.shutdown()


def _say(answers: Any, value: Any) -> None:
    answers.write(json.dumps(value) + "\n")
    answers.flush()


if __name__ == "__main__":
    main()
