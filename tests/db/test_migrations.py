"""The chain of migrations, and the recipe for another one."""

import re
from itertools import pairwise
from pathlib import Path

from alembic.script import ScriptDirectory

from nearedge_db import migrate

VERSIONS = Path(migrate.__file__).parent / "migrations" / "versions"


def chain():
    scripts = ScriptDirectory.from_config(migrate._config())
    return scripts, sorted(scripts.walk_revisions(), key=lambda script: script.revision)


def test_there_is_one_head_and_one_base():
    scripts, _ = chain()
    assert (len(scripts.get_heads()), len(scripts.get_bases())) == (1, 1)


def test_each_revision_follows_the_number_before_and_is_named_after_it():
    _, revisions = chain()
    numbers = [script.revision for script in revisions]
    assert numbers == [f"{number:04d}" for number in range(1, len(revisions) + 1)]
    assert revisions[0].down_revision is None
    assert all(later.down_revision == earlier.revision for earlier, later in pairwise(revisions))
    files = sorted(path.name for path in VERSIONS.glob("[0-9]*.py"))
    assert [name.split("_")[0] for name in files] == numbers


def test_the_recipe_names_no_revision_that_exists():
    text = (Path(__file__).parents[2] / "CONTRIBUTING.md").read_text(encoding="utf-8")
    found = re.findall(r'^ *(?:down_)?revision = "(.*?)"', text, re.MULTILINE)
    assert len(found) == 2
    assert not set(found) & migrate.known_revisions()
