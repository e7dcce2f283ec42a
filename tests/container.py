"""Runs what the Kubernetes manifests run, as they let it run, on this machine and without an image.

A container's surroundings are made with mounts of its own (container.sh): the image's files and the
virtual environment, read-only, the manifest's emptyDirs, its user, its command and no rights.
"""

import os
import shutil
import subprocess
import sys
from pathlib import Path

from tests.manifests import containers, pods
from tests.preloaded import ROOT
from tests.test_deployment import dockerfile_stages, last_stage

SCRIPT = ROOT / "tests" / "container.sh"


def reason_not_to() -> str | None:
    """Say why this machine can make no such surroundings; None if it can."""
    if os.getuid() != 0:
        return "only root may make mounts, and become a user without rights"
    if not (shutil.which("unshare") and shutil.which("setpriv")):
        return "no unshare and setpriv (util-linux) on the PATH"
    trial = ["unshare", "--mount", "--propagation", "private", "mount", "-t", "tmpfs", "x", "/mnt"]
    if subprocess.run(trial, check=False, capture_output=True).returncode != 0:
        return "not even root may make mounts here"
    return None


def start(
    pod: str, name: str, variables: dict[str, str], log: Path, command: list[str] | None = None
) -> "subprocess.Popen[bytes]":
    """Start a container of a manifest, or another `command` in its place.

    `variables` are those of its ConfigMap and Secret; what it prints is in `log`.
    """
    (manifest,) = [one for one in containers(pods()[pod]) if one["name"] == name]
    writable = [mount["mountPath"] for mount in manifest.get("volumeMounts", [])]
    user = str(pods()[pod]["spec"]["securityContext"]["runAsUser"])
    root = log.with_suffix(".root")
    root.mkdir()
    made = ["unshare", "--mount", "--propagation", "private", str(SCRIPT)]
    made += [str(root), user, " ".join(writable), " ".join(files_of_the_image())]
    made += command or manifest["command"]
    with log.open("wb") as output:
        return subprocess.Popen(
            made, cwd=ROOT, env=environment() | variables, stdout=output, stderr=output
        )


def environment() -> dict[str, str]:
    """Return what the image sets, and where this machine has its Python."""
    image = dict(pair.split("=", 1) for pair in last_stage("ENV").split())
    return image | {
        "PATH": f"{sys.prefix}/bin:/usr/sbin:/usr/bin:/sbin:/bin",
        "HOME": "/home/store",
        "PYTHON_HOME": sys.base_prefix,
        "PYTHON_ENVIRONMENT": sys.prefix,
    }


def files_of_the_image() -> list[str]:
    """Return what the last stage of the Dockerfile takes from the checkout."""
    copies = [rest.split() for name, rest in dockerfile_stages()[-1] if name == "COPY"]
    return [name for words in copies if not words[0].startswith("--") for name in words[:-1]]
