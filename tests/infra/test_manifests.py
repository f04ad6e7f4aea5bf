"""What Kubernetes and KubeRay are given: checked by Kubernetes' own schemas and by Ray's own reader of its clusters.

KubeRay's schemas come with no package. Where MARCO_KUBERAY_CRDS, or a folder `kuberay` of the test data, has its
`ray.io_rayclusters.yaml` and `ray.io_rayjobs.yaml`, the manifests are held to them field by field; elsewhere to a list
of fields that were seen to pass, so that a new one is not taken up unseen.
"""

import copy
import os
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

ROOT = Path(__file__).parents[2]
INFRA = ROOT / "infra"
KUBERNETES = "1.31"
CLUSTERS = ("raycluster.yaml", "build-rayjob.yaml", "train-rayjob.yaml")

SEEN_BY_KUBERAY = set(
    re.findall(
        r"\S+",
        """
        authOptions.mode authOptions.secretName autoscalerOptions.idleTimeoutSeconds autoscalerOptions.resources
        autoscalerOptions.securityContext autoscalerOptions.version enableInTreeAutoscaling rayVersion
        headGroupSpec.rayStartParams headGroupSpec.serviceType headGroupSpec.template
        workerGroupSpecs.groupName workerGroupSpecs.maxReplicas workerGroupSpecs.minReplicas
        workerGroupSpecs.rayStartParams workerGroupSpecs.replicas workerGroupSpecs.template
        job.backoffLimit job.entrypoint job.shutdownAfterJobFinishes job.ttlSecondsAfterFinished
        """,
    )
)
"""The fields of our manifests that passed the schemas of KubeRay 1.6.2 and 1.7.0."""


def loaded(name: str) -> dict[str, Any]:
    manifest: dict[str, Any] = yaml.safe_load((INFRA / name).read_text("utf-8"))
    return manifest


def cluster_of(manifest: dict[str, Any]) -> dict[str, Any]:
    spec = manifest["spec"]
    cluster: dict[str, Any] = spec if manifest["kind"] == "RayCluster" else spec["rayClusterSpec"]
    return cluster


def pods(manifest: dict[str, Any]) -> Iterator[dict[str, Any]]:
    cluster = cluster_of(manifest)
    for group in (cluster["headGroupSpec"], *cluster["workerGroupSpecs"]):
        yield group["template"]["spec"]


def check(manifest: dict[str, Any]) -> None:
    pytest.importorskip("kubernetes_validate").validate(manifest, KUBERNETES, strict=True)


@pytest.mark.parametrize("name", CLUSTERS)
def test_every_pod_is_one_of_kubernetes(name):
    found = list(pods(loaded(name)))
    assert len(found) >= 2
    for spec in found:
        check({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "one"}, "spec": spec})


def test_the_check_of_pods_refuses_what_kubernetes_does_not_know():
    validate = pytest.importorskip("kubernetes_validate")
    (spec, *_) = pods(loaded("raycluster.yaml"))
    wrong = copy.deepcopy(spec)
    wrong["containers"][0]["imagePullPollicy"] = "Always"
    with pytest.raises(validate.ValidationError):
        check({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "one"}, "spec": wrong})


def test_the_network_policy_is_one_of_kubernetes():
    policy = loaded("network-policy.yaml")
    check(policy)
    served = {
        port["containerPort"]: port["name"] for port in next(pods(loaded("raycluster.yaml")))["containers"][0]["ports"]
    }
    allowed = {port["port"] for rule in policy["spec"]["ingress"] for port in rule.get("ports", ())}
    assert {served[number] for number in allowed} == {"dashboard", "metrics", "as-metrics", "dash-metrics"}


def test_the_pod_monitor_scrapes_ports_that_the_pods_have():
    monitor = loaded("metrics/pod-monitor.yaml")
    asked = {endpoint["port"] for endpoint in monitor["spec"]["podMetricsEndpoints"]}
    head, *workers = pods(loaded("raycluster.yaml"))
    assert asked <= {port["name"] for port in head["containers"][0]["ports"]}
    assert all("metrics" in {port["name"] for port in pod["containers"][0]["ports"]} for pod in workers)
    policy = loaded("network-policy.yaml")
    assert monitor["spec"]["selector"]["matchExpressions"] == policy["spec"]["podSelector"]["matchExpressions"]


def test_ray_s_autoscaler_reads_the_clusters():
    """The reader that runs beside each head: it takes groups, limits and resources from the manifest."""
    from ray.autoscaler._private.kuberay import autoscaling_config

    for name in ("raycluster.yaml", "build-rayjob.yaml"):
        given = {"metadata": {"name": "marco", "namespace": "here"}, "spec": copy.deepcopy(cluster_of(loaded(name)))}
        kinds = autoscaling_config._derive_autoscaling_config_from_ray_cr(given)["available_node_types"]
        assert kinds["headgroup"]["resources"]["CPU"] == 0
        assert (kinds["processors"]["min_workers"], kinds["processors"]["max_workers"]) == (0, 100)
        assert kinds["processors"]["resources"] == {"CPU": 16, "memory": 64 << 30}
        assert kinds["gpus"]["resources"] == {"CPU": 16, "GPU": 8, "memory": 128 << 30}


def test_a_job_s_cluster_is_the_cluster_with_the_recipe_mounted():
    def without_recipe(value: Any) -> Any:
        if isinstance(value, list):
            return [without_recipe(v) for v in value if not (isinstance(v, dict) and v.get("name") == "recipe")]
        return {k: without_recipe(v) for k, v in value.items()} if isinstance(value, dict) else value

    job = loaded("build-rayjob.yaml")
    assert without_recipe(cluster_of(job)) == cluster_of(loaded("raycluster.yaml"))
    (mount,) = {
        m["mountPath"] for pod in pods(job) for m in pod["containers"][0]["volumeMounts"] if m["name"] == "recipe"
    }
    assert f"--recipe {mount}/recipe.yaml" in job["spec"]["entrypoint"]


def test_a_job_is_a_command_that_there_is_and_restarts_from_outside():
    import typer.main

    from marco_data.cli import app

    job = loaded("build-rayjob.yaml")["spec"]
    words = job["entrypoint"].split()
    assert words[:2] == ["marco-data", "build-stage"]
    command = typer.main.get_command(app).commands["build-stage"]  # type: ignore[attr-defined]
    parsed = command.make_context("build-stage", words[2:]).params
    assert (parsed["stage"], parsed["address"]) == (3, "auto")
    assert job["backoffLimit"] >= 1
    assert job["shutdownAfterJobFinishes"] is True


@pytest.mark.parametrize("name", CLUSTERS)
def test_ray_is_of_the_version_that_the_image_has(name):
    (version,) = re.findall(r"^ray==(\S+)$", (ROOT / "constraints.txt").read_text(), re.MULTILINE)
    assert cluster_of(loaded(name))["rayVersion"] == version


@pytest.mark.parametrize("name", CLUSTERS)
def test_nothing_runs_as_root_nothing_is_open_and_no_secret_is_written_down(name):
    manifest = loaded(name)
    cluster = cluster_of(manifest)
    assert cluster["authOptions"]["mode"] == "token"
    assert cluster["headGroupSpec"]["serviceType"] == "ClusterIP"
    for pod in pods(manifest):
        assert pod["securityContext"]["runAsNonRoot"] is True
        assert pod["securityContext"]["runAsUser"] > 0
        for container in pod["containers"]:
            assert container["securityContext"] == {
                "allowPrivilegeEscalation": False,
                "capabilities": {"drop": ["ALL"]},
            }
            if name == "train-rayjob.yaml":  # it asks for no secret
                assert "envFrom" not in container
                assert all("valueFrom" not in variable for variable in container.get("env", ()))
            else:
                assert container["envFrom"] == [{"secretRef": {"name": "marco-data", "optional": True}}]
                assert "env" not in container


@pytest.mark.parametrize("name", CLUSTERS)
def test_no_pod_may_ask_kubernetes_but_the_one_of_an_autoscaler(name):
    manifest = loaded(name)
    scales = bool(cluster_of(manifest).get("enableInTreeAutoscaling"))
    head, *workers = (pod.get("automountServiceAccountToken") for pod in pods(manifest))
    assert head is scales
    assert set(workers) == {False}


@pytest.mark.parametrize("name", CLUSTERS)
def test_pods_with_gpus_may_go_where_gpus_are(name):
    for pod in pods(loaded(name)):
        asks = any("nvidia.com/gpu" in container["resources"]["limits"] for container in pod["containers"])
        assert asks == any(t["key"] == "nvidia.com/gpu" for t in pod.get("tolerations", ()))


def test_what_a_training_writes_to_is_its_user_s():
    for pod in pods(loaded("train-rayjob.yaml")):
        assert pod["securityContext"]["fsGroup"] == pod["securityContext"]["runAsGroup"]
        assert any("persistentVolumeClaim" in volume for volume in pod["volumes"])


@pytest.mark.parametrize(
    "labels", [{"app.kubernetes.io/name": "kuberay"}, {"app.kubernetes.io/name": "kuberay-operator"}]
)
def test_the_operator_may_ask_how_a_job_is_however_it_was_installed(labels):
    """`name` differs between KubeRay's Helm chart and its kustomization (1.6.2 and 1.7.0); `component` does not."""
    operator = labels | {"app.kubernetes.io/component": "kuberay-operator"}
    rules = loaded("network-policy.yaml")["spec"]["ingress"]
    let_in = [
        rule
        for rule in rules
        for who in rule["from"]
        if "namespaceSelector" in who and who["podSelector"]["matchLabels"].items() <= operator.items()
    ]
    assert [port["port"] for rule in let_in for port in rule["ports"]] == [8265]


@pytest.mark.parametrize("name", CLUSTERS)
def test_images_are_targets_of_the_dockerfile(name):
    text = (INFRA / "Dockerfile").read_text("utf-8")
    targets = set(re.findall(r"^FROM \S+ AS (\S+)$", text, re.MULTILINE))
    images = {container["image"] for pod in pods(loaded(name)) for container in pod["containers"]}
    assert {image.partition(":")[0] for image in images} == {"marco-data"}
    assert {image.partition(":")[2] for image in images} <= targets


def fields(manifest: dict[str, Any]) -> set[str]:
    """Dotted names of what a manifest says, down to what Kubernetes itself defines."""

    def below(value: Any, depth: int) -> Iterator[str]:
        if isinstance(value, list):
            for item in value:
                yield from below(item, depth)
        elif isinstance(value, dict) and depth:
            for key, inner in value.items():
                names = set(below(inner, depth - 1))
                yield from (f"{key}.{n}" for n in names) if names else (key,)

    plain = {n.removesuffix(".") for n in below(cluster_of(manifest), 2)}
    plain = {re.sub(r"^(headGroupSpec|workerGroupSpecs)\.(\w+).*", r"\1.\2", n) for n in plain}
    job = (
        {f"job.{key}" for key in manifest["spec"] if key != "rayClusterSpec"} if manifest["kind"] == "RayJob" else set()
    )
    return plain | job


@pytest.mark.parametrize("name", CLUSTERS)
def test_fields_are_those_that_passed_kuberay_s_schemas(name):
    assert fields(loaded(name)) - SEEN_BY_KUBERAY == set()


def strict(schema: Any) -> Any:
    """A CRD's schema that refuses fields it does not name."""
    if isinstance(schema, list):
        return [strict(item) for item in schema]
    if not isinstance(schema, dict):
        return schema
    out = {key: strict(value) for key, value in schema.items()}
    if out.pop("x-kubernetes-int-or-string", False) is True:
        out.pop("type", None)
    closed = not out.get("x-kubernetes-preserve-unknown-fields")
    if closed and isinstance(out.get("properties"), dict) and out.get("type") == "object":
        out.setdefault("additionalProperties", False)
    return out


@pytest.mark.parametrize("name", CLUSTERS)
def test_kuberay_s_own_schemas_take_every_field(name):
    given = os.environ.get("MARCO_KUBERAY_CRDS") or f"{os.environ.get('MARCO_TEST_DATA', '')}/kuberay"
    folder = Path(given)
    if not folder.is_absolute() or not folder.is_dir():
        pytest.skip(
            "no KubeRay schemas here: MARCO_KUBERAY_CRDS names a folder with ray.io_rayclusters.yaml and _rayjobs"
        )
    jsonschema = pytest.importorskip("jsonschema")
    manifest = loaded(name)
    manifest["metadata"].setdefault("name", "one")
    with (folder / f"ray.io_{manifest['kind'].lower()}s.yaml").open(encoding="utf-8") as file:
        definition = yaml.load(file, getattr(yaml, "CSafeLoader", yaml.SafeLoader))
    (schema,) = [v["schema"]["openAPIV3Schema"] for v in definition["spec"]["versions"] if v["name"] == "v1"]
    schema["properties"]["metadata"] = {}
    jsonschema.Draft202012Validator(strict(schema)).validate(manifest)
    manifest["spec"]["unheardOf"] = 1
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.Draft202012Validator(strict(schema)).validate(manifest)
