"""Settings of one oracle or two."""

import pytest
from tests.platform.campaign_files import write_config

from nearedge.config import load_config
from nearedge.fidelity import ConfirmConfig, OracleConfig
from nearedge_db.errors import UserError


def test_screen_is_another_word_for_oracle_and_a_name_is_enough(tmp_path):
    config = load_config(write_config(tmp_path, screen="feff", confirm="gpaw"))
    assert config.oracle == OracleConfig(name="feff")
    assert config.confirm == ConfirmConfig(name="gpaw")


def test_nothing_is_confirmed_unless_asked_for(tmp_path):
    assert load_config(write_config(tmp_path)).confirm is None


def test_both_words_at_once_are_refused(tmp_path):
    with pytest.raises(UserError, match="screen and oracle are the same setting"):
        load_config(write_config(tmp_path, screen="xtb", oracle={"name": "feff"}))


@pytest.mark.parametrize("wrong", [{"best": 0}, {"starts": 5}, {"every": 0}])
def test_numbers_that_mean_nothing_are_refused(tmp_path, wrong):
    with pytest.raises(UserError, match=f"confirm.{next(iter(wrong))}"):
        load_config(write_config(tmp_path, confirm={"name": "gpaw", **wrong}))
