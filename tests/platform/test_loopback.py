"""Nobody else on the network reaches a campaign of one machine."""

import psutil
from tests.platform.campaign_files import write_config

from nearedge.config import load_config
from nearedge.raycluster import ray_running


def test_the_ray_of_a_campaign_listens_on_loopback_only(tmp_path):
    config = load_config(write_config(tmp_path, ray={"address": "local", "num_cpus": 1}))
    with ray_running(config) as servers:
        family = [*servers.vital.values(), *servers.helpers]
        family += [child for server in family for child in server.children(recursive=True)]
        listening = {
            connection.laddr.ip
            for process in [psutil.Process(), *family]
            for connection in process.net_connections(kind="inet")
            if connection.status == psutil.CONN_LISTEN
        }
    assert listening
    assert listening <= {"127.0.0.1", "::1", "::ffff:127.0.0.1"}
