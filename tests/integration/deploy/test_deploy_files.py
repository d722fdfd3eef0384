"""The files for containers: rendered by kustomize's and Compose's own loaders, held against Kubernetes' own schemas.

They are never run here, for want of a container engine; docs/how-to/deploy.md says so.
"""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import click
import kubernetes_validate
import pytest
import yaml

from examples.servers import fetch
from stranglerfig.cli.main import fig
from tests.conftest import required

DEPLOY = Path(__file__).parents[3] / "deploy"
KUBERNETES = "1.31"
KUSTOMIZE = """\
package main

import (
	"fmt"
	"os"

	"sigs.k8s.io/kustomize/api/krusty"
	"sigs.k8s.io/kustomize/kyaml/filesys"
)

func main() {
	found, err := krusty.MakeKustomizer(krusty.MakeDefaultOptions()).Run(filesys.MakeFsOnDisk(), os.Args[1])
	if err == nil {
		var text []byte
		if text, err = found.AsYaml(); err == nil {
			fmt.Print(string(text))
			return
		}
	}
	fmt.Fprintln(os.Stderr, err)
	os.Exit(1)
}
"""
COMPOSE = """\
package main

import (
	"context"
	"fmt"
	"os"

	"github.com/compose-spec/compose-go/v2/cli"
)

func main() {
	options, err := cli.NewProjectOptions(os.Args[1:], cli.WithOsEnv, cli.WithResolvedPaths(true))
	if err == nil {
		project, failed := options.LoadProject(context.Background())
		if err = failed; err == nil {
			var text []byte
			if text, err = project.MarshalYAML(); err == nil {
				fmt.Print(string(text))
				return
			}
		}
	}
	fmt.Fprintln(os.Stderr, err)
	os.Exit(1)
}
"""


def rendered(name: str, source: str, module: str, target: Path) -> str:
    try:
        program = fetch.go(name, source, [module])
    except fetch.Missing as error:
        required(str(error))
    done = subprocess.run([program, str(target)], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


def kustomized(overlay: str) -> list[dict[str, Any]]:
    text = rendered("kustomize", KUSTOMIZE, "sigs.k8s.io/kustomize/api@v0.21.0", DEPLOY / "kubernetes" / overlay)
    return list(yaml.safe_load_all(text))


def containers(found: list[dict[str, Any]]) -> Iterator[dict[str, Any]]:
    for one in found:
        if one["kind"] in ("Deployment", "StatefulSet"):
            yield from one["spec"]["template"]["spec"]["containers"]


def known(arguments: list[str]) -> bool:
    """Whether ``fig`` has such a command with such options."""
    command: click.Command = fig
    rest = list(arguments)
    while isinstance(command, click.Group):
        found = command.get_command(click.Context(command), rest.pop(0))
        if found is None:
            return False
        command = found
    command.make_parser(click.Context(command)).parse_args(rest)
    return True


@pytest.mark.timeout(600)
@pytest.mark.parametrize("overlay", ["base", "kafka"])
def test_manifests_are_what_kubernetes_takes(overlay: str) -> None:
    found = kustomized(overlay)
    kinds = [(one["kind"], one["metadata"]["name"]) for one in found]
    wanted = {("StatefulSet", "fig"), ("Deployment", "sync"), ("Deployment", "registry"), ("Service", "facade")}
    assert wanted <= set(kinds)
    assert (("Deployment", "connect") in kinds) == (overlay == "kafka")
    for one in found:
        kubernetes_validate.validate(one, KUBERNETES, strict=True)
        assert one["metadata"].get("namespace", "stranglerfig") == "stranglerfig"
    for container in containers(found):
        assert ":" in container["image"]
        if container["image"].startswith("stranglerfig"):
            assert known(container["args"]), container["args"]


def test_a_mistake_would_be_found() -> None:
    [sync] = [one for one in kustomized("base") if one["metadata"]["name"] == "sync" and one["kind"] == "Deployment"]
    sync["spec"]["replica"] = 2
    with pytest.raises(kubernetes_validate.ValidationError):
        kubernetes_validate.validate(sync, KUBERNETES, strict=True)


@pytest.mark.timeout(600)
def test_compose_takes_its_file() -> None:
    module = "github.com/compose-spec/compose-go/v2@v2.9.0"
    found = yaml.safe_load(rendered("compose", COMPOSE, module, DEPLOY / "compose.yaml"))
    services = found["services"]
    assert {"fig", "sync", "registry", "control", "kafka"} <= services.keys()
    for name in ("fig", "sync", "registry"):
        assert known(services[name]["command"]), services[name]["command"]
