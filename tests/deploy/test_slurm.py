"""The Slurm script, with stand-ins for Slurm and Ray: what it starts, and what it does when the walltime comes."""

import os
import signal
import subprocess
import time
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
SCRIPT = ROOT / "deploy" / "slurm" / "nearedge.sbatch"

PROGRAMS = {
    "scontrol": 'case "$1" in show) printf "127.0.0.1\\nother\\n";; requeue) echo "requeue $2" >> "$SEEN";; esac',
    # the task itself runs here: what precedes its name are options
    "srun": 'echo "srun $*" >> "$SEEN"\nwhile [ "${1#--}" != "$1" ]; do shift; done\nexec "$@"',
    "ray": '[ "$1" = health-check ] && exit\necho "token ${#RAY_AUTH_TOKEN}" >> "$SEEN"\nexec sleep 60',
    "nearedge": 'echo "nearedge $* at $RAY_ADDRESS" >> "$SEEN"\n'
    "trap 'echo drained >> \"$SEEN\"; exit 130' TERM\n"
    'until [ "$(grep -c ^token "$SEEN")" = 2 ]; do sleep 0.05; done\n'
    'if [ "$2" = short.yaml ]; then exit 0; fi\nif [ "$2" = bad.yaml ]; then exit 2; fi\n'
    "for i in $(seq 100); do sleep 0.1; done",
}


@pytest.fixture
def job(tmp_path, monkeypatch):
    """Start the script as Slurm does; returns the process and the file with what was called."""
    programs = tmp_path / "bin"
    programs.mkdir()
    for name, text in PROGRAMS.items():
        (programs / name).write_text(f"#!/bin/bash\n{text}\n")
        (programs / name).chmod(0o755)
    seen = tmp_path / "seen.txt"
    seen.touch()
    environment = {
        **os.environ,
        "PATH": f"{programs}:{os.environ['PATH']}",
        "SEEN": str(seen),
        "SLURM_SUBMIT_DIR": str(tmp_path),
        "SLURM_JOB_ID": str(os.getpid()),
        "SLURM_JOB_NODELIST": "n[1-2]",
        "SLURM_CPUS_PER_TASK": "3",
    }

    def start(*arguments: str, **more: str) -> tuple[subprocess.Popen, Path]:
        return (
            subprocess.Popen(
                ["bash", str(SCRIPT), *arguments],
                env={**environment, **more},
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                text=True,
            ),
            seen,
        )

    return start


def wait_for(seen: Path, text: str) -> None:
    deadline = time.monotonic() + 30
    while text not in seen.read_text():
        assert time.monotonic() < deadline, seen.read_text()
        time.sleep(0.05)


@pytest.mark.parametrize(("settings", "status"), [("short.yaml", 0), ("bad.yaml", 2)])
def test_the_status_is_that_of_the_campaign(job, settings, status):
    process, seen = job(settings, "--seed", "1")
    output, _ = process.communicate(timeout=60)
    assert process.returncode == status, output
    text = seen.read_text()
    assert f"nearedge run {settings} --seed 1 at 127.0.0.1:" in text
    starts = [line for line in text.splitlines() if line.startswith("srun") and " ray start " in line]
    head, worker = sorted(starts, key=lambda line: "--head" not in line)  # they start side by side
    assert "--nodelist=127.0.0.1 ray start --head --block" in head
    assert "--exclude=127.0.0.1 ray start --address=127.0.0.1:" in worker
    assert "--num-cpus=3" in head
    assert "--num-cpus=3" in worker
    assert text.count("token 64") == 2
    assert "requeue" not in text


@pytest.mark.parametrize("requeue", ["1", "0"])
def test_before_the_walltime_the_campaign_drains_and_the_job_queues_again(job, requeue):
    process, seen = job("long.yaml", NEAREDGE_REQUEUE=requeue)
    wait_for(seen, "nearedge run")
    process.send_signal(signal.SIGTERM)  # Slurm's --signal=B:TERM goes to the script alone
    output, _ = process.communicate(timeout=60)
    assert process.returncode == 130, output
    assert "drained" in seen.read_text()
    assert (f"requeue {os.getpid()}" in seen.read_text()) == (requeue == "1")


def test_no_settings_file_is_an_error(job):
    process, _ = job()
    output, _ = process.communicate(timeout=30)
    assert process.returncode == 2
    assert "error: no settings file" in output


def test_a_signal_is_asked_for_early_enough_and_reaches_the_script_alone():
    text = SCRIPT.read_text(encoding="utf-8")
    assert "#SBATCH --signal=B:TERM@600" in text
    assert "#SBATCH --requeue" in text
