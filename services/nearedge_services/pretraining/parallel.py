"""Jobs on several processes of this machine, each job in a fresh interpreter's single thread."""

import multiprocessing
import os
import threading
import time
from collections.abc import Callable, Iterable
from concurrent.futures import ProcessPoolExecutor, as_completed

from nearedge_services.pretraining.jobs import Job, run_job

Report = Callable[[str, int, int], None]
"""Told the name of a stage, how many of its jobs are done, and how many there are."""


def run_jobs(name: str, jobs: Iterable[Job], workers: int, report: Report) -> None:
    """Run those jobs whose files are missing; the first failure ends it, and what is finished stays."""
    jobs = list(jobs)
    left = [job for job in jobs if not job.path.exists()]
    done = len(jobs) - len(left)
    report(name, done, len(jobs))
    if not left:
        return
    with process_pool(workers) as pool:
        futures = [pool.submit(run_job, job) for job in left]
        try:
            for future in as_completed(futures):
                future.result()
                done += 1
                report(name, done, len(jobs))
        except BaseException:
            pool.shutdown(wait=False, cancel_futures=True)
            raise


def process_pool(workers: int) -> ProcessPoolExecutor:
    """Fresh interpreters with one thread each, which leave when this process is gone, however it went."""
    context = multiprocessing.get_context("spawn")
    return ProcessPoolExecutor(workers, mp_context=context, initializer=_prepare, initargs=(os.getpid(),))


def _prepare(parent: int) -> None:
    os.environ["OMP_NUM_THREADS"] = "1"
    threading.Thread(target=_leave_with, args=(parent,), daemon=True).start()
    import torch

    torch.set_num_threads(1)


def _leave_with(parent: int) -> None:
    while os.getppid() == parent:
        time.sleep(1.0)
    os._exit(1)
