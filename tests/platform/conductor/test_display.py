"""The live display: how often it asks the database, and what it shows."""

import io

import pytest
from rich.console import Console

from nearedge import progress
from nearedge.progress import Display


@pytest.fixture
def shown(world, monkeypatch):
    """Runs a campaign under a display, by a clock of one second a look; what was shown and how often it was read."""
    reads, now = [], [100.0]
    read = progress._read
    monkeypatch.setattr(progress, "_read", lambda *args: (reads.append(args[1]), read(*args))[1])
    monkeypatch.setattr(progress.time, "monotonic", lambda: now[0])

    def run(terminal):
        output = io.StringIO()
        display, ticks = Display(world.config, Console(file=output, force_terminal=terminal, width=200)), []
        session = world.conductor()

        def tick():
            ticks.append(1)
            now[0] += 1.0
            display.update(session)

        with display:
            session.run(tick)
        return output.getvalue(), reads, len(ticks)

    return run


def test_a_terminal_is_refreshed_more_often_than_the_database_is_read(shown):
    text, reads, ticks = shown(terminal=True)
    assert "guided" in text
    assert len(reads) == -(-ticks // 3)


def test_elsewhere_every_line_is_read_anew(shown):
    text, reads, ticks = shown(terminal=False)
    assert text.count("labels: starting structures") == len(reads) == -(-ticks // 15)
