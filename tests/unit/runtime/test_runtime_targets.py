"""Where metrics are served and who is told of alerts: what fig.yaml says of both, and what Prometheus is given."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest
import yaml

from stranglerfig.foundation.errors import FigError
from stranglerfig.runtime.alerting import read
from stranglerfig.runtime.datadir import DataDirectory
from stranglerfig.runtime.settings import Project, load_project
from stranglerfig.runtime.supervise import roles_of
from stranglerfig.runtime.targets import Target, file_sd, further, reached, scrape_config, targets

FIG = "name: shop\nmonolith: {url: 'http://127.0.0.1:8001', database: 'postgresql://u@h/shop'}\n"
EXTRACTION = """\
context: inventory
service: {url: 'https://inventory.example.com', database: {env: DSN}, metrics: /stats}
routes: {reads: [{path: '/i/{id}', methods: [GET]}], writes: [{path: /i, methods: [POST]}]}
tables: [{from: public.item, to: public.item, key: {id: id}, columns: {n: n}}]
"""


def project(folder: Path, more: str = "", **environment: str) -> Project:
    (folder / "fig.yaml").write_text(FIG + more)
    return load_project(folder, environment)


def test_a_service_is_a_target_when_its_extraction_says_so(tmp_path: Path) -> None:
    file = tmp_path / "contexts/inventory/extraction.yaml"
    file.parent.mkdir(parents=True)
    file.write_text(EXTRACTION)
    found = project(tmp_path)
    ports = {"metrics_up": 1, "metrics_sync": 2, "metrics_router": 3, "envoy_admin": 4}
    said = {each["labels"]["role"]: each for each in file_sd(found, targets(found, ports, roles_of(found)))}
    assert said.keys() == {"up", "sync", "envoy", "service"}, "no router, where there are no queues"
    assert said["sync"]["targets"] == ["127.0.0.1:2"]
    assert said["envoy"]["labels"]["__metrics_path__"] == "/stats/prometheus"
    assert said["service"] == {
        "targets": ["inventory.example.com:443"],
        "labels": {
            "estate": "shop",
            "role": "service",
            "service_name": "inventory",
            "__scheme__": "https",
            "__metrics_path__": "/stats",
        },
    }


def test_metrics_are_served_where_fig_yaml_says(tmp_path: Path) -> None:
    assert project(tmp_path).metrics_host == "127.0.0.1" and project(tmp_path).metrics_ports(["up"]) == {}
    found = project(tmp_path, "telemetry: {metrics: '10.0.0.5:9400'}\n")
    fixed = found.metrics_ports(["up", "sync"])
    assert (found.metrics_host, fixed) == ("10.0.0.5", {"metrics_up": 9400, "metrics_sync": 9401})
    data = DataDirectory(tmp_path / ".fig")
    data.prepare()
    chosen = data.choose_ports(("fence", "metrics_up", "metrics_sync"), fixed=fixed)
    assert {name: chosen[name] for name in fixed} == fixed and chosen["fence"] not in fixed.values()
    assert [each.address for each in targets(found, chosen, ["sync"])] == ["10.0.0.5:9400", "10.0.0.5:9401"]
    assert reached("::1") == "[::1]" and reached("0.0.0.0") not in ("", "0.0.0.0")


def test_processes_beside_fig_up_are_found_while_they_live(tmp_path: Path) -> None:
    found = project(tmp_path)
    data = DataDirectory(tmp_path / ".fig")
    data.prepare()
    gone = subprocess.Popen(["true"])
    gone.wait()
    data.say_further("sync", gone.pid, file_sd(found, [Target("sync", "127.0.0.1:1")]))
    told = data.say_further("sync", os.getpid(), file_sd(found, [Target("sync", "127.0.0.1:2")]))
    assert further(data.path) == [Target("sync", "127.0.0.1:2")]
    config = yaml.safe_load(scrape_config(data.path))["scrape_configs"][0]
    assert config["job_name"] == "fig"
    assert [Path(file) for file in config["file_sd_configs"][0]["files"]] == [
        data.path / "targets.json",
        data.path / "targets-*.json",
    ]
    told.unlink()
    assert further(data.path) == []


def test_the_webhook_is_named_and_never_shown(tmp_path: Path) -> None:
    assert "alerts" not in roles_of(project(tmp_path))
    found = project(tmp_path, "alerts: {webhook: {env: HOOK}}\n", HOOK="https://chat/s3cret")
    assert "alerts" in roles_of(found) and found.estate.alerts.webhook is not None
    assert found.webhook(found.estate.alerts.webhook) == "https://chat/s3cret"
    assert "s3cret" not in repr(found)
    given = project(tmp_path, "alerts: {webhook: 'https://chat/s3cret'}\n")
    assert given.estate.alerts.webhook is not None and "s3cret" not in repr(given)
    wrong = project(tmp_path, "alerts: {webhook: {env: HOOK}}\n", HOOK="s3cret")
    assert wrong.estate.alerts.webhook is not None
    with pytest.raises(FigError) as caught:
        wrong.webhook(wrong.estate.alerts.webhook)
    assert caught.value.code == "bad_address" and "s3cret" not in str(caught.value)


def test_what_a_process_serves_is_read_with_its_target_s_labels() -> None:
    served = (
        "# HELP fig_sync_parked_changes x\n# TYPE fig_sync_parked_changes gauge\n"
        'fig_sync_parked_changes{context="a",direction="forward"} 2.0\n'
        'fig_sync_behind_records{context="a",direction="forward"} 7.0\nprocess_open_fds 9\n'
    )
    (sample,) = read(served, Target("sync", "127.0.0.1:2"), "shop")
    assert (sample.name, sample.value) == ("fig_sync_parked_changes", 2)
    assert sample.labels == {
        "context": "a", "direction": "forward", "estate": "shop", "role": "sync", "instance": "127.0.0.1:2"
    }  # fmt: skip
    with pytest.raises(ValueError, match="could not convert"):
        list(read("fig_sync_parked_changes{ nonsense\n", Target("sync", "x:1"), "shop"))
