"""The Kubernetes manifests of deploy/k8s/, as tests read them."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from tests.preloaded import ROOT

FOLDER = ROOT / "deploy" / "k8s"
BASE, EXAMPLE = FOLDER / "base", FOLDER / "overlays" / "example"


@dataclass(frozen=True)
class Document:
    """A YAML document, and the file that it is in."""

    path: Path
    content: dict[str, Any]

    @property
    def kind(self) -> str:
        return self.content["kind"]

    def __str__(self) -> str:
        return f"{self.path.name}-{self.kind}"


def documents() -> list[Document]:
    """Return everything but the kustomizations."""
    return [
        Document(path, content)
        for path in sorted(FOLDER.rglob("*.yaml"))
        if path.name != "kustomization.yaml"
        for content in yaml.safe_load_all(path.read_text())
    ]


def kustomizations() -> list[Document]:
    paths = sorted(FOLDER.rglob("kustomization.yaml"))
    return [Document(path, yaml.safe_load(path.read_text())) for path in paths]


def of_kind(kind: str) -> list[dict[str, Any]]:
    return [one.content for one in documents() if one.kind == kind]


def named(kind: str, name: str) -> dict[str, Any]:
    (found,) = [one for one in of_kind(kind) if one["metadata"]["name"] == name]
    return found


def pods() -> dict[str, dict[str, Any]]:
    """Return the template of each kind of pod by its component's name."""
    templates = [one["spec"]["template"] for one in of_kind("Deployment") + of_kind("Job")]
    templates += [one["spec"]["jobTemplate"]["spec"]["template"] for one in of_kind("CronJob")]
    return {one["metadata"]["labels"]["app.kubernetes.io/component"]: one for one in templates}


def containers(pod: dict[str, Any]) -> list[dict[str, Any]]:
    return [*pod["spec"].get("initContainers", []), *pod["spec"]["containers"]]


def variables(path: Path) -> dict[str, str]:
    """Return what a file of NAME=value lines sets."""
    lines = [line for line in path.read_text().splitlines() if line and not line.startswith("#")]
    return dict(line.split("=", 1) for line in lines)
