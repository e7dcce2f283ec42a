"""deploy/k8s/: valid, in agreement with image, gunicorn and settings, and with no right too many."""

import json
import re
import shutil
import subprocess
from pathlib import Path
from urllib.parse import urlsplit

import kubernetes_validate
import pytest
import yaml

from tests.manifests import (
    BASE,
    EXAMPLE,
    FOLDER,
    containers,
    documents,
    kustomizations,
    named,
    of_kind,
    pods,
    variables,
)
from tests.preloaded import ROOT
from tests.test_deployment import SECRETS, last_stage, variables_read_by_settings

# Of those that kubernetes-validate has schemas for, the first that takes a sleep in preStop without being
# told to, and the newest.
RELEASES = ("1.30", "1.37")
LABEL = "app.kubernetes.io/name"
WEB_LABELS = {LABEL: "store", "app.kubernetes.io/component": "web"}
ALL_PODS = sorted(pods())


def setting_of_gunicorn(name: str) -> int:
    found = re.search(rf"^{name} = (\d+)$", (ROOT / "gunicorn.conf.py").read_text(), re.MULTILINE)
    return int(found[1])


def specs_by_name(documents: list[dict]) -> dict[str, dict]:
    return {one["metadata"]["name"]: one["spec"] for one in documents}


def web() -> dict:
    return named("Deployment", "store-web")


def web_container() -> dict:
    (container,) = pods()["web"]["spec"]["containers"]
    return container


# --- Valid ---------------------------------------------------------------------------------------
@pytest.mark.parametrize("release", RELEASES)
@pytest.mark.parametrize("document", documents(), ids=str)
def test_a_manifest_is_what_kubernetes_takes_and_nothing_else(document, release):
    assert kubernetes_validate.validate(document.content, release, strict=True) == release


def test_a_field_that_kubernetes_does_not_know_would_be_seen():
    document = named("Deployment", "store-web") | {"replicas": 3}
    with pytest.raises(kubernetes_validate.ValidationError, match="replicas"):
        kubernetes_validate.validate(document, RELEASES[-1], strict=True)


@pytest.mark.parametrize("document", kustomizations(), ids=lambda one: one.path.parent.name)
def test_a_kustomization_names_every_file_of_its_folder_and_no_other(document):
    folder, content = document.path.parent, document.content
    generators = content.get("configMapGenerator", []) + content.get("secretGenerator", [])
    inputs = {name for one in generators for name in one["envs"]}
    files = {name for name in content["resources"] if name.endswith(".yaml")} | inputs
    folders = set(content["resources"]) - files | set(content.get("components", []))
    there = {name.removesuffix(".example") for name in names_in(folder)}
    assert files == there - {"kustomization.yaml"}
    assert all((folder / name / "kustomization.yaml").is_file() for name in folders)


def names_in(folder: Path) -> list[str]:
    """Return the names in a folder but for secrets.env, which whoever has a store has made there."""
    return [path.name for path in folder.iterdir() if path.name != "secrets.env"]


@pytest.mark.skipif(not shutil.which("kubectl"), reason="no kubectl, which has kustomize in it")
def test_kustomize_makes_of_the_example_what_kubernetes_takes(tmp_path):
    shutil.copytree(FOLDER, tmp_path, dirs_exist_ok=True)
    example = tmp_path / EXAMPLE.relative_to(FOLDER)
    shutil.copy(example / "secrets.env.example", example / "secrets.env")
    command = ["kubectl", "kustomize", str(example)]
    made = subprocess.run(command, capture_output=True, check=True, text=True).stdout
    found = list(yaml.safe_load_all(made))
    for one in found:
        kubernetes_validate.validate(one, RELEASES[-1], strict=True)
        assert one["kind"] == "Namespace" or one["metadata"]["namespace"] == "store"
    kinds = {one["kind"]: one for one in found}
    assert kinds.keys() == {one.kind for one in documents()} | {"ConfigMap", "Secret"}
    # Names with a hash of what is in them are those that the pods ask for.
    for kind in ("ConfigMap", "Secret"):
        assert made.count(f"name: {kinds[kind]['metadata']['name']}\n") == 1 + sum(
            len(containers(pod)) for pod in pods().values()
        )
    assert set(re.findall(r"image: (.*)", made)) == {"registry.example/store:1.0.0"}
    # Labels that kustomize puts into selectors would find no name server.
    policies = [one for one in found if one["kind"] == "NetworkPolicy"]
    assert specs_by_name(policies) == specs_by_name(of_kind("NetworkPolicy"))
    deployments = {one["metadata"]["name"]: one for one in found if one["kind"] == "Deployment"}
    assert "replicas" not in deployments["store-web"]["spec"]  # The autoscaler's.


def test_the_page_about_it_names_files_that_are_there():
    page = (ROOT / "docs" / "scale" / "kubernetes.md").read_text()
    files = re.findall(r"^\| `([\w./-]+)`", page, re.MULTILINE)
    assert {"web.yaml", "worker.yaml", "check-cache.yaml", "network-policy.yaml"} <= set(files)
    assert all((BASE / name).exists() or (FOLDER / name).exists() for name in files)
    for path in re.findall(r"`((?:deploy|tests)/[\w./-]+)`", page):
        assert (ROOT / path).exists()
    assert named("Job", re.search(r"kubectl delete job (\S+)", page)[1])


# --- Settings and secrets ------------------------------------------------------------------------
def test_every_variable_that_the_manifests_set_is_one_that_the_settings_read():
    files = [BASE / "settings.env", EXAMPLE / "settings.env", EXAMPLE / "secrets.env.example"]
    names = {name for path in files for name in variables(path)}
    assert {"MYSQL_HOST", "REDIS_URL", "ALLOWED_HOSTS", *SECRETS} <= names
    assert names <= set(variables_read_by_settings())
    assert not [one for pod in pods().values() for one in containers(pod) if "env" in one]


def test_secrets_come_from_a_file_that_git_leaves_alone_and_none_is_in_the_repository():
    assert variables(EXAMPLE / "secrets.env.example") == dict.fromkeys(SECRETS, "")
    for path in FOLDER.rglob("settings.env"):
        assert not SECRETS & set(variables(path))
    assert not of_kind("Secret")
    assert "secrets.env" in (ROOT / ".gitignore").read_text().splitlines()


@pytest.mark.parametrize("name", ALL_PODS)
def test_every_container_has_the_same_settings_and_an_image_with_a_version(name):
    for container in containers(pods()[name]):
        assert container["envFrom"] == [
            {"configMapRef": {"name": "store-settings"}},
            {"secretRef": {"name": "store-secrets"}},
        ]
        assert re.fullmatch(r"store:\d[\w.]*", container["image"])


def test_the_example_says_which_version_of_the_image_it_means():
    (image,) = yaml.safe_load((EXAMPLE / "kustomization.yaml").read_text())["images"]
    assert re.fullmatch(r"\d[\w.]*", image["newTag"])


# --- What a pod may do ---------------------------------------------------------------------------
@pytest.mark.parametrize("name", ALL_PODS)
def test_a_pod_has_no_right_that_it_does_not_need(name):
    spec = pods()[name]["spec"]
    user = int(re.search(r"--uid (\d+)", last_stage("RUN"))[1])
    assert spec["securityContext"] == {
        "runAsNonRoot": True,
        "runAsUser": user,
        "runAsGroup": user,
        "seccompProfile": {"type": "RuntimeDefault"},
    }
    for container in containers(pods()[name]):
        assert container["securityContext"] == {
            "allowPrivilegeEscalation": False,
            "readOnlyRootFilesystem": True,
            "capabilities": {"drop": ["ALL"]},
        }
    assert spec["serviceAccountName"] == named("ServiceAccount", "store")["metadata"]["name"]
    assert spec["automountServiceAccountToken"] is False
    # A Service called `mysql` would set MYSQL_PORT to tcp://10.0.0.1:3306.
    assert spec["enableServiceLinks"] is False


@pytest.mark.parametrize("name", ALL_PODS)
def test_a_container_says_what_it_needs_and_only_the_web_may_write_a_bounded_amount(name):
    spec = pods()[name]["spec"]
    volumes = {volume["name"]: volume["emptyDir"] for volume in spec.get("volumes", [])}
    assert all("sizeLimit" in volume for volume in volumes.values())
    for container in containers(pods()[name]):
        assert set(container["resources"]["requests"]) == {"cpu", "memory"}
        assert "memory" in container["resources"]["limits"]
        mounted = {mount["name"]: mount["mountPath"] for mount in container.get("volumeMounts", [])}
        assert mounted.keys() == (volumes.keys() if container["name"] == "web" else set())


def test_only_names_servers_the_ingress_and_prometheus_are_let_through():
    policies = specs_by_name(of_kind("NetworkPolicy"))
    all_of_the_store = {"matchLabels": {LABEL: "store"}}
    assert policies["store-deny"] == {
        "podSelector": all_of_the_store,
        "policyTypes": ["Ingress", "Egress"],
    }
    assert policies["store-names"]["podSelector"] == all_of_the_store
    (names,) = policies["store-names"]["egress"]
    in_cluster, on_the_node = names["to"]
    assert in_cluster["podSelector"] == {"matchLabels": {"k8s-app": "kube-dns"}}
    assert on_the_node == {"ipBlock": {"cidr": "169.254.20.10/32"}}
    assert {(port["protocol"], port["port"]) for port in names["ports"]} == {
        ("UDP", 53),
        ("TCP", 53),
    }
    assert policies["store-web"]["podSelector"] == {"matchLabels": WEB_LABELS}
    (incoming,) = policies["store-web"]["ingress"]
    assert all(set(one) == {"namespaceSelector"} for one in incoming["from"])
    assert [port["port"] for port in incoming["ports"]] == ["http"]


def test_the_example_lets_through_its_own_servers_and_no_others():
    policy = named("NetworkPolicy", "store-servers")["spec"]
    assert policy["podSelector"] == {"matchLabels": {LABEL: "store"}}
    assert policy["policyTypes"] == ["Egress"]
    (egress,) = policy["egress"]
    ports = {(port["protocol"], port["port"]) for port in egress["ports"]}
    (there,) = egress["to"]
    settings = variables(EXAMPLE / "settings.env")
    default_port = variables_read_by_settings()["MYSQL_PORT"].args[1].value
    redis = [urlsplit(settings[name]) for name in ("REDIS_URL", "QUEUE_REDIS_URL")]
    assert ports == {("TCP", default_port)} | {("TCP", url.port) for url in redis}
    # A pod is matched by its labels, and in some networks not by its address.
    namespace = there["namespaceSelector"]["matchLabels"]["kubernetes.io/metadata.name"]
    for host in (settings["MYSQL_HOST"], *(url.hostname for url in redis)):
        assert host.endswith(f".{namespace}.svc.cluster.local")


# --- Starting, serving, stopping -----------------------------------------------------------------
def test_the_web_listens_where_the_service_and_the_probes_look_for_it():
    (port,) = web_container()["ports"]
    assert str(port["containerPort"]) == last_stage("EXPOSE")
    assert variables(BASE / "settings.env")["PORT"] == last_stage("EXPOSE")
    service = named("Service", "store")["spec"]
    assert service["selector"] == WEB_LABELS
    assert service["ports"][0]["targetPort"] == port["name"]
    ingress = named("Ingress", "store")["spec"]["rules"][0]
    assert ingress["http"]["paths"][0]["backend"]["service"]["name"] == "store"
    assert ingress["host"] in variables(EXAMPLE / "settings.env")["ALLOWED_HOSTS"].split(",")
    for probe in ("startupProbe", "readinessProbe", "livenessProbe"):
        assert web_container()[probe]["httpGet"]["port"] == port["name"]
    annotations = pods()["web"]["metadata"]["annotations"]
    assert annotations["prometheus.io/port"] == last_stage("EXPOSE")


@pytest.mark.parametrize("probe", ["startupProbe", "readinessProbe", "livenessProbe"])
def test_no_probe_asks_for_the_database(probe):
    """The lists that bridge its outage would be out of reach; new pods wait for it before they start."""
    assert web_container()[probe]["httpGet"]["path"] == "/healthz"


def test_the_containers_run_what_the_image_runs():
    command = json.loads(last_stage("CMD"))[-1]
    prepare, serve = command.split(" && exec ")
    assert pods()["prepare"]["spec"]["containers"][0]["command"] == prepare.split()
    assert web_container()["command"] == serve.split()
    assert pods()["worker"]["spec"]["containers"][0]["command"][-2:] == ["manage.py", "rqworker"]


def test_who_needs_the_tables_waits_for_the_job_that_makes_them():
    assert named("Job", "store-prepare")["spec"]["ttlSecondsAfterFinished"] > 0
    for name in ("web", "worker"):
        (waiting,) = pods()[name]["spec"]["initContainers"]
        assert "migrate --check" in waiting["command"][-1]


def test_a_pod_is_given_the_time_that_its_requests_may_take():
    spec = pods()["web"]["spec"]
    pause = web_container()["lifecycle"]["preStop"]["sleep"]["seconds"]
    assert pause > 0  # Proxies hear later than the pod that it is to go.
    enough = pause + setting_of_gunicorn("graceful_timeout")
    assert spec["terminationGracePeriodSeconds"] > enough
    assert pods()["worker"]["spec"]["terminationGracePeriodSeconds"] > 10


def test_an_update_or_a_drained_node_never_takes_a_pod_that_is_needed():
    assert web()["spec"]["strategy"]["rollingUpdate"]["maxUnavailable"] == 0
    (budget,) = of_kind("PodDisruptionBudget")
    assert budget["spec"]["selector"] == {"matchLabels": WEB_LABELS}
    assert budget["spec"]["maxUnavailable"] == 1
    autoscaler = named("HorizontalPodAutoscaler", "store-web")["spec"]
    assert autoscaler["scaleTargetRef"]["name"] == web()["metadata"]["name"]
    assert min(autoscaler["minReplicas"], web()["spec"]["replicas"]) > 1
    for spread in pods()["web"]["spec"]["topologySpreadConstraints"]:
        assert spread["labelSelector"] == {"matchLabels": WEB_LABELS}


@pytest.mark.parametrize("name", ["store-web", "store-worker"])
def test_a_deployment_finds_its_own_pods_only(name):
    spec = named("Deployment", name)["spec"]
    labels = spec["template"]["metadata"]["labels"]
    assert spec["selector"]["matchLabels"] == labels
    others = [one["metadata"]["labels"] for one in pods().values()]
    assert others.count(labels) == 1
