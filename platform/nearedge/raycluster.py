"""Ray for one campaign: a cluster that is there, or a local one for its time."""

import logging
import os
import signal
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from typing import Any

import psutil
import ray
from ray._private import ray_constants

from nearedge.config import CampaignConfig
from nearedge.interruption import GO_ON
from nearedge.raynodes import amounts_of_nodes, check_nodes
from nearedge.room import check_node_sizes, custom_resources, local_cpus
from nearedge.site import name_of_address, ray_address
from nearedge_db.errors import UserError, one_line

VITAL = ("raylet", "gcs_server")
"""Names of the processes without which Ray does nothing."""

LOOPBACK_VARIABLE = "RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER"

ATTEMPTS = 4
"""How often Ray is started: it gives up after 30 s by itself, which a busy machine may need longer than."""
TOO_SLOW = "timed out during startup"
"""What it says then, in an error of no class of its own."""


class RayLostError(Exception):
    """The Ray that this process started is gone; the message says so in one line."""


@dataclass(frozen=True)
class Servers:
    """Processes of Ray that this one started; none where the cluster was there before."""

    vital: Mapping[str, psutil.Process] = field(default_factory=dict)
    helpers: Sequence[psutil.Process] = ()

    @classmethod
    def of(cls, processes: Sequence[psutil.Process]) -> "Servers":
        """The processes, told apart by their names."""
        vital = {name: process for process in processes if (name := _name(process)) in VITAL}
        return cls(vital, [process for process in processes if process not in vital.values()])

    def check(self) -> None:
        """Raise RayLostError where a vital one has died, and end the others: calls of Ray would wait for them."""
        dead = [name for name, process in self.vital.items() if not _is_alive(process)]
        if dead:
            servers = [*self.vital.values(), *self.helpers]
            workers = [worker for server in servers for worker in _children(server)]
            end([*servers, *workers])
            raise RayLostError(f"Ray's {dead[0]} has died (killed, or out of memory?); {GO_ON}")

    def shut_down(self) -> None:
        """Disconnect, and end them."""
        end(self.helpers)  # Ray asks each by a SIGTERM, which none gets, and waits for a second
        ray.shutdown()


@contextmanager
def ray_running(config: CampaignConfig) -> Iterator[Servers]:
    """Connect to Ray, or start it on this machine; disconnects (and stops what it started) at the end.

    The cluster is that of the settings, or of ``RAY_ADDRESS``: in a submitted job, the one that the job runs on.
    Raises UserError when it cannot be used.

    A local Ray is told to have the CPUs and custom resources of all pools: on a machine with fewer cores they share
    them. GPUs and memory are those of the machine.
    """
    os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")
    options = {
        "logging_level": logging.WARNING,
        "log_to_driver": False,
        "namespace": f"nearedge-{config.name}",
    }
    # it would be told at every start that the token which Ray makes protects the cluster
    logging.getLogger("ray._private.authentication.authentication_token_setup").setLevel(logging.ERROR)
    servers = Servers()
    address = ray_address(config.ray.address)
    if address is not None:
        try:
            with signals_kept():
                ray.init(address=address, **options)
        except ConnectionError as error:
            raise UserError(
                f"the Ray cluster of {name_of_address(config.ray.address)} cannot be used",
                got=f"{address} ({one_line(error)})",
                fix="start it with `ray start --head`, mend the address, or leave it out",
            ) from error
    else:
        servers = _start(config, options)
    try:
        whose = "this machine's Ray" if address is None else "the Ray cluster"
        check_node_sizes(config, amounts_of_nodes(), whose)
        if address is not None:
            check_nodes(config)
        yield servers
    except RayLostError:
        raise  # `ray.shutdown` waits for what is gone: left to the end of the process, when the reason has been told
    except BaseException:
        servers.shut_down()
        raise
    else:
        servers.shut_down()


def _start(config: CampaignConfig, options: dict[str, Any]) -> Servers:
    """Start Ray on this machine."""
    this = psutil.Process()
    before = this.children()
    for _ in range(ATTEMPTS):
        try:
            with signals_kept(), deaf_children(), loopback_only():
                ray.init(
                    address="local",
                    num_cpus=local_cpus(config),
                    resources=custom_resources(config),
                    include_dashboard=False,
                    _node_ip_address="127.0.0.1",
                    **options,
                )
            return Servers.of([process for process in this.children() if process not in before])
        except BaseException as error:
            end(process for process in this.children() if process not in before)
            if not isinstance(error, Exception) or TOO_SLOW not in str(error):
                raise
    raise RayLostError(f"Ray did not start in {ATTEMPTS} attempts of 30 s: the machine is too busy; {GO_ON}")


def end(processes: Iterable[psutil.Process]) -> None:
    """Kill those that are still there."""
    for process in processes:
        with suppress(psutil.NoSuchProcess):
            process.kill()


@contextmanager
def deaf_children() -> Iterator[None]:
    """Processes started inside never get a SIGTERM, nor do theirs: it stays blocked.

    `timeout`, systemd and Slurm send it to all processes of a campaign at once. It is for the driver alone, which
    needs Ray to finish the labels in flight, and SIGKILLs what it has started; Ray itself does so with a worker that
    SIGTERM does not end.
    """
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


@contextmanager
def loopback_only() -> Iterator[None]:
    """Servers of a Ray started inside listen on loopback: a campaign of one machine has nothing to offer to others.

    The variable is Ray's, for desktop systems; this process read it when it imported Ray. The address alone does not
    do it: they listen on every interface then.
    """
    before, known = os.environ.get(LOOPBACK_VARIABLE), ray_constants.ENABLE_RAY_CLUSTER
    os.environ[LOOPBACK_VARIABLE], ray_constants.ENABLE_RAY_CLUSTER = "0", False
    try:
        yield
    finally:
        ray_constants.ENABLE_RAY_CLUSTER = known
        if before is None:
            del os.environ[LOOPBACK_VARIABLE]
        else:
            os.environ[LOOPBACK_VARIABLE] = before


@contextmanager
def signals_kept() -> Iterator[None]:
    """Undo that `ray.init` makes SIGTERM a SystemExit: a KeyboardInterrupt meanwhile, afterwards what it was."""
    before = signal.getsignal(signal.SIGTERM)
    try:
        yield
    except SystemExit as error:
        if error.code == signal.SIGTERM:
            raise KeyboardInterrupt from error
        raise
    finally:
        signal.signal(signal.SIGTERM, before)


def _name(process: psutil.Process) -> str:
    """Its name; empty where it has just ended."""
    try:
        return process.name()
    except psutil.NoSuchProcess:
        return ""


def _children(process: psutil.Process) -> list[psutil.Process]:
    """What it has started, and they, as far as that can still be told."""
    try:
        return process.children(recursive=True)
    except psutil.NoSuchProcess:
        return []


def _is_alive(process: psutil.Process) -> bool:
    """Not so for one that has ended, even if nobody has asked for its exit status."""
    try:
        return process.is_running() and process.status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False
