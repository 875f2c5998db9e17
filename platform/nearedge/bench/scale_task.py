"""Structures of one size, sampled in a process of their own so that its peak memory is theirs.

``python -m nearedge.bench.scale_task '{…}'`` does one task, prints a line per evaluation of the network and
writes a JSON file.
"""

import json
import resource
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from nearedge_services.diffusion.prior import Prior

DENSITY_G_CM3 = 2.5
EVALUATION = "evaluation"


@dataclass(frozen=True)
class ScaleTask:
    """What to sample: `count` structures of `n_atoms` atoms by the prior in a folder; the files it writes."""

    prior: str
    n_atoms: int
    count: int
    steps: int
    seed: int
    threads: int
    structures: str
    record: str


@dataclass(frozen=True)
class ScaleRecord:
    """What it took.

    wall_s and cpu_s: all structures; evaluations: of the network, each of one batch; atom_evaluations: atoms
    times evaluations; batch_atoms: atoms of the largest batch; base_bytes and peak_bytes: largest resident
    memory after a first small structure, and at the end; alone_s: processor time of one more structure by
    itself.
    """

    n_atoms: int
    count: int
    wall_s: float
    cpu_s: float
    evaluations: int
    atom_evaluations: int
    batch_atoms: int
    base_bytes: int
    peak_bytes: int
    alone_s: float | None

    @property
    def kib_per_atom(self) -> float:
        """Memory that the largest batch took, KiB per atom of it."""
        return (self.peak_bytes - self.base_bytes) / 1024 / self.batch_atoms


def run_task(task: ScaleTask, at: Callable[[int], None]) -> ScaleRecord:
    """Do the task in a new process; `at` takes the number of evaluations so far.

    Raises RuntimeError with the end of its error output when it fails.
    """
    command = [sys.executable, "-m", __name__, json.dumps(asdict(task))]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:  # noqa: S603
        for line in process.stdout or ():
            if line.startswith(EVALUATION):
                at(int(line.split()[1]))
        errors = process.stderr.read() if process.stderr else ""
    if process.returncode:
        raise RuntimeError(f"{task.n_atoms} atoms: exit status {process.returncode}: {errors[-2000:]}")
    return ScaleRecord(**json.loads(Path(task.record).read_text(encoding="utf-8")))


def measure(task: ScaleTask) -> ScaleRecord:
    """Sample in this process, and write the structures."""
    import torch

    from nearedge_services.diffusion.prior import Prior
    from nearedge_services.structures.extxyz import write_structures

    torch.set_num_threads(task.threads)
    prior = Prior.load(task.prior)
    _sample(prior, 64, [task.seed], 2)
    base = peak_memory()
    batches: list[int] = []

    def note(_: Any, arguments: tuple[Any, ...]) -> None:
        batches.append(len(arguments[0].positions))
        print(EVALUATION, len(batches), flush=True)

    hook = prior.backbone.register_forward_pre_hook(note)
    wall, cpu = time.perf_counter(), time.process_time()
    structures = _sample(prior, task.n_atoms, [task.seed + k for k in range(task.count)], task.steps)
    wall, cpu = time.perf_counter() - wall, time.process_time() - cpu
    peak = peak_memory()
    hook.remove()
    write_structures(task.structures, structures)
    alone = None
    if task.count > 1:
        alone = time.process_time()
        _sample(prior, task.n_atoms, [task.seed], task.steps)
        alone = time.process_time() - alone
    sizes = (len(batches), sum(batches), max(batches))
    return ScaleRecord(task.n_atoms, task.count, wall, cpu, *sizes, base, peak, alone)


def _sample(prior: "Prior", n_atoms: int, seeds: Sequence[int], steps: int) -> list[Any]:
    from nearedge_services.diffusion.sampler import SamplerSettings, empty_cells, sample
    from nearedge_services.structures.composition import parse_composition

    cells = empty_cells(parse_composition(f"C{n_atoms}"), [DENSITY_G_CM3] * len(seeds))
    return sample(prior, cells, SamplerSettings(steps=steps), seeds)


def peak_memory() -> int:
    """Largest resident memory of this process so far, bytes."""
    status = Path("/proc/self/status")
    if status.is_file():
        for line in status.read_text(encoding="ascii").splitlines():
            if line.startswith("VmHWM:"):  # `getrusage` also counts the parent's, from before the program
                return int(line.split()[1]) * 1024
    largest = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return largest if sys.platform == "darwin" else largest * 1024


if __name__ == "__main__":
    chosen = ScaleTask(**json.loads(sys.argv[1]))
    Path(chosen.record).write_text(json.dumps(asdict(measure(chosen))), encoding="utf-8")
