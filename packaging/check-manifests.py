#!/usr/bin/env python3
"""Checks the compose file and the Kubernetes manifest against their schemas, and that both say what the image needs.
Wants the packages of tests/clients/requirements.txt."""

import pathlib
import sys

import compose_spec
import kubernetes_validate
import yaml

HERE = pathlib.Path(__file__).parent
# The oldest release that is still looked after, and the newest this package knows.
VERSIONS = ("1.33", kubernetes_validate.latest_version())


def check(what, holds):
    if not holds:
        sys.exit(f"check-manifests.py: {what}")


def compose():
    path = HERE / "compose/compose.yaml"
    compose_spec.PyCompose.from_yaml(path.read_text()).validate()
    service = yaml.safe_load(path.read_text())["services"]["mainstay"]
    check("compose: the root must be read-only", service["read_only"] is True)
    check("compose: no capability is needed", service["cap_drop"] == ["ALL"])
    check("compose: /data must be kept", any(volume.endswith(":/data") for volume in service["volumes"]))
    # The drain takes up to 30 s.
    check("compose: stopping takes longer", int(service["stop_grace_period"].removesuffix("s")) > 30)


def kubernetes():
    documents = list(yaml.safe_load_all((HERE / "kubernetes/mainstay.yaml").read_text()))
    for version in VERSIONS:
        for document in documents:
            kubernetes_validate.validate(document, version, strict=True)
    (deployment,) = (document for document in documents if document["kind"] == "Deployment")
    pod = deployment["spec"]["template"]["spec"]
    (container,) = pod["containers"]
    check("kubernetes: one process owns the data", deployment["spec"]["replicas"] == 1)
    check("kubernetes: the old one must let go first", deployment["spec"]["strategy"]["type"] == "Recreate")
    check("kubernetes: the user is the image's", pod["securityContext"]["runAsUser"] == 65532)
    check("kubernetes: the root must be read-only", container["securityContext"]["readOnlyRootFilesystem"] is True)
    check("kubernetes: stopping takes longer", pod["terminationGracePeriodSeconds"] > 30)
    ports = {port["name"] for port in container["ports"]}
    (service,) = (document for document in documents if document["kind"] == "Service")
    check("kubernetes: the service names a port that is none", {port["targetPort"] for port in service["spec"]["ports"]} <= ports)


if __name__ == "__main__":
    compose()
    kubernetes()
    print(f"compose.yaml and mainstay.yaml hold to their schemas (Kubernetes {' and '.join(VERSIONS)})")
