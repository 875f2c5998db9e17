"""What the custom resources of KubeRay (``ray.io/v1``, as of 1.5) look like, as far as our manifests use them.

No package carries their schema. The names, types and required fields here were taken from KubeRay's reference of the
API; a pod template in them is one of Kubernetes' own, and is validated by Kubernetes' own schema.
"""

from typing import Any

import kubernetes_validate
from jsonschema import Draft202012Validator

KUBERNETES = "1.37"
TEXT, NUMBER, FLAG = {"type": "string"}, {"type": "integer", "minimum": 0}, {"type": "boolean"}
TEXTS = {"type": "object", "additionalProperties": TEXT}
POD_TEMPLATE = {"type": "object", "required": ["spec"]}


def _fields(required: list[str], **properties: Any) -> dict[str, Any]:
    return {
        "type": "object",
        "properties": properties,
        "required": required,
        "additionalProperties": False,
    }


HEAD_GROUP = _fields(
    ["template"],
    rayStartParams=TEXTS,
    template=POD_TEMPLATE,
    serviceType={"enum": ["ClusterIP", "NodePort", "LoadBalancer"]},
    headService={"type": "object"},
    enableIngress=FLAG,
)
WORKER_GROUP = _fields(
    ["groupName", "template", "minReplicas", "maxReplicas"],
    groupName=TEXT,
    replicas=NUMBER,
    minReplicas=NUMBER,
    maxReplicas=NUMBER,
    idleTimeoutSeconds=NUMBER,
    numOfHosts=NUMBER,
    suspend=FLAG,
    rayStartParams=TEXTS,
    template=POD_TEMPLATE,
    scaleStrategy={"type": "object"},
)
CLUSTER_SPEC = _fields(
    ["headGroupSpec"],
    rayVersion=TEXT,
    authOptions=_fields(["mode"], mode={"enum": ["token", "disabled"]}, secretName=TEXT),
    headGroupSpec=HEAD_GROUP,
    workerGroupSpecs={"type": "array", "items": WORKER_GROUP},
    enableInTreeAutoscaling=FLAG,
    autoscalerOptions={"type": "object"},
    gcsFaultToleranceOptions={"type": "object"},
    headServiceAnnotations=TEXTS,
    managedBy=TEXT,
    suspend=FLAG,
)
JOB_SPEC = _fields(
    ["entrypoint"],
    entrypoint=TEXT,
    runtimeEnvYAML=TEXT,
    jobId=TEXT,
    metadata=TEXTS,
    rayClusterSpec=CLUSTER_SPEC,
    clusterSelector=TEXTS,
    submissionMode={"enum": ["K8sJobMode", "HTTPMode", "InteractiveMode", "SidecarMode"]},
    submitterPodTemplate=POD_TEMPLATE,
    submitterConfig=_fields([], backoffLimit=NUMBER),
    entrypointNumCpus={"type": "number"},
    entrypointNumGpus={"type": "number"},
    entrypointResources=TEXT,
    backoffLimit=NUMBER,
    activeDeadlineSeconds=NUMBER,
    shutdownAfterJobFinishes=FLAG,
    ttlSecondsAfterFinished=NUMBER,
    managedBy=TEXT,
    suspend=FLAG,
)
SPECS = {"RayCluster": CLUSTER_SPEC, "RayJob": JOB_SPEC}


def validate(document: dict[str, Any]) -> None:
    """Raises ValidationError, jsonschema's or kubernetes_validate's, for a document that is not what it says."""
    schema = _fields(
        ["apiVersion", "kind", "metadata", "spec"],
        apiVersion={"const": "ray.io/v1"},
        kind=TEXT,
        metadata=_fields(["name"], name=TEXT, labels=TEXTS, annotations=TEXTS, namespace=TEXT),
        spec=SPECS[document["kind"]],
    )
    Draft202012Validator(schema).validate(document)
    for template in pod_templates(document):
        pod = {"apiVersion": "v1", "kind": "PodTemplate", "metadata": {"name": "x"}, "template": template}
        kubernetes_validate.validate(pod, KUBERNETES, strict=True)


def cluster_spec(document: dict[str, Any]) -> dict[str, Any]:
    """The Ray cluster of a RayCluster or a RayJob."""
    spec = document["spec"]
    return spec["rayClusterSpec"] if document["kind"] == "RayJob" else spec


def pod_templates(document: dict[str, Any]) -> list[dict[str, Any]]:
    """Pod templates of the head and of every group of workers."""
    spec = cluster_spec(document)
    return [group["template"] for group in (spec["headGroupSpec"], *spec.get("workerGroupSpecs", []))]
