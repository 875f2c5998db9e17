"""What puts NearEdge on a cluster is valid by the schemas of those who read it, and keeps what the guide promises.

No engine of containers and no Kubernetes is asked: the schemas come with packages, and no network is needed.
"""

import copy
import json
import re
import tomllib
from pathlib import Path
from typing import Any

import kubernetes_validate
import pytest
import yaml
from check_jsonschema import builtin_schemas
from jsonschema import ValidationError
from jsonschema.protocols import Validator
from jsonschema.validators import validator_for
from tests.deploy import kuberay

ROOT = Path(__file__).resolve().parents[2]
DEPLOY = ROOT / "deploy"
COMPOSE = DEPLOY / "compose" / "compose.yaml"
MANIFESTS = sorted((DEPLOY / "kuberay").glob("*.yaml"))
SERVERS = {"NEAREDGE_DATABASE", "NEAREDGE_MLFLOW", "NEAREDGE_RUNS"}


def documents(path: Path) -> list[dict[str, Any]]:
    return list(yaml.safe_load_all(path.read_text(encoding="utf-8")))


def manifest(kind: str) -> dict[str, Any]:
    (found,) = [one for path in MANIFESTS for one in documents(path) if one["kind"] == kind]
    return found


@pytest.fixture
def compose() -> dict[str, Any]:
    return yaml.safe_load(COMPOSE.read_text(encoding="utf-8"))


@pytest.fixture(scope="module")
def compose_schema() -> Validator:
    folder = Path(builtin_schemas.__file__).parent / "vendor"
    schema = json.loads((folder / "compose-spec.json").read_text(encoding="utf-8"))
    return validator_for(schema)(schema)


@pytest.fixture
def cluster() -> dict[str, Any]:
    return copy.deepcopy(manifest("RayCluster"))


def test_the_compose_file_is_valid(compose, compose_schema):
    compose_schema.validate(compose)


def test_a_wrong_key_in_the_compose_file_is_found(compose, compose_schema):
    compose["services"]["mlflow"]["port"] = ["5000:5000"]
    with pytest.raises(ValidationError, match="'port' was unexpected"):
        compose_schema.validate(compose)


@pytest.mark.parametrize("path", MANIFESTS, ids=lambda path: path.name)
def test_the_manifests_are_valid(path):
    for document in documents(path):
        if document["apiVersion"].startswith("ray.io/"):
            kuberay.validate(document)
        else:
            kubernetes_validate.validate(document, kuberay.KUBERNETES, strict=True)


def test_a_wrong_key_in_a_pod_of_a_ray_cluster_is_found(cluster):
    cluster["spec"]["headGroupSpec"]["template"]["spec"]["containers"][0]["imagePull"] = "Always"
    with pytest.raises(kubernetes_validate.ValidationError, match="imagePull"):
        kuberay.validate(cluster)


def test_a_wrong_key_of_a_ray_cluster_is_found(cluster):
    cluster["spec"]["workerGroupSpec"] = cluster["spec"].pop("workerGroupSpecs")
    with pytest.raises(ValidationError, match="workerGroupSpec"):
        kuberay.validate(cluster)


def test_a_job_has_the_cluster_of_the_cluster_and_its_own_settings_file(cluster):
    job = copy.deepcopy(manifest("RayJob"))
    for template in kuberay.pod_templates(job):
        pod = template["spec"]
        pod["volumes"] = [one for one in pod["volumes"] if one["name"] != "campaign"]
        for container in pod["containers"]:
            container["volumeMounts"] = [m for m in container["volumeMounts"] if m["name"] != "campaign"]
    assert kuberay.cluster_spec(job) == kuberay.cluster_spec(cluster)


@pytest.mark.parametrize("kind", ["RayCluster", "RayJob"])
def test_every_pod_of_ray_runs_as_a_user_and_knows_the_servers(kind):
    settings = manifest("ConfigMap")
    assert set(settings["data"]) >= SERVERS
    for template in kuberay.pod_templates(manifest(kind)):
        pod = template["spec"]
        assert pod["securityContext"]["runAsNonRoot"]
        (container,) = pod["containers"]
        named = [next(iter(source.values()))["name"] for source in container["envFrom"]]
        assert named == [settings["metadata"]["name"], "nearedge-secrets"]
        assert "/data" in [mount["mountPath"] for mount in container["volumeMounts"]]


def test_every_node_of_compose_knows_the_servers(compose):
    for name in ("ray-head", "ray-worker", "submit"):
        assert set(compose["services"][name]["environment"]) >= {*SERVERS, "PGPASSWORD", "RAY_AUTH_TOKEN"}


def test_compose_listens_on_this_machine_only(compose):
    published = [port for service in compose["services"].values() for port in service.get("ports", [])]
    assert published
    assert all(port.startswith("127.0.0.1:") for port in published)


def test_services_of_kubernetes_stay_inside():
    services = [one for path in MANIFESTS for one in documents(path) if one["kind"] == "Service"]
    assert services
    assert all(one["spec"].get("type", "ClusterIP") == "ClusterIP" for one in services)


def test_secrets_come_from_the_environment():
    """A secret is a variable that must be set, or a Secret that is made beforehand: never written down here."""
    assert not [one for path in MANIFESTS for one in documents(path) if one["kind"] == "Secret"]
    for path in (path for path in DEPLOY.rglob("*") if path.is_file() and path.suffix != ".pyc"):
        for line in path.read_text(encoding="utf-8").splitlines():
            given = re.search(r"(?:PASSWORD|TOKEN): *(.+)", line)
            assert given is None or given[1].startswith("${"), f"{path.name}: {line}"
            assert not re.search(r"://[^/\s:@]+:[^/\s@$]+@", line), f"{path.name}: {line}"


def test_all_speak_of_the_locked_ray():
    lock = (ROOT / "requirements.lock").read_text(encoding="utf-8")
    (version,) = re.findall(r"^ray==(.+)$", lock, flags=re.MULTILINE)
    for kind in ("RayCluster", "RayJob"):
        assert kuberay.cluster_spec(manifest(kind))["rayVersion"] == version


def test_the_container_is_of_the_locked_python_and_what_it_copies_is_in_its_context():
    text = (DEPLOY / "container" / "Containerfile").read_text(encoding="utf-8")
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    assert project["project"]["requires-python"] == ">=3.11"
    assert "FROM python:3.11-slim" in text
    assert text.index("USER nearedge") < text.index("ENTRYPOINT")
    kept = {line[1:] for line in (ROOT / ".dockerignore").read_text(encoding="utf-8").splitlines()[1:]}
    for line in re.findall(r"^COPY (.+)$", text, flags=re.MULTILINE):
        for source in [word for word in line.split() if not word.startswith("--")][:-1]:
            assert any(source == path or source.startswith(f"{path}/") for path in kept), source
            assert source.startswith("dist/") or (ROOT / source).exists(), source
