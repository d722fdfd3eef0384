"""``fig alerts``: rules, dashboard and targets for Prometheus and Grafana; what fires; a try of the webhook."""

from __future__ import annotations

import re
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import click
import orjson

from stranglerfig.cli.main import Fig
from stranglerfig.foundation import clock
from stranglerfig.foundation.errors import FigError
from stranglerfig.foundation.files import written_whole
from stranglerfig.telemetry import alerts as known
from stranglerfig.telemetry import shipped

_output = click.option(
    "--output", type=click.Path(path_type=Path, dir_okay=False), help="Write it into this file instead."
)


def _write(text: str, output: Path | None) -> None:
    if output is None:
        click.echo(text, nl=False)
        return
    with written_whole(output, replace=True) as draft:
        draft.write_text(text, encoding="utf-8")


@click.group()
def alerts() -> None:
    """What an operator is warned of: for Prometheus and Grafana, or by a webhook.

    Example: fig alerts list
    """


@alerts.command()
@click.option(
    "--guide",
    default=known.GUIDE,
    show_default=True,
    help="Where the page with what to do is: each alert's runbook_url leads to its section there.",
)
@_output
def rules(guide: str, output: Path | None) -> None:
    """Print recording and alerting rules for Prometheus (rule_files).

    Example: fig alerts rules --output /etc/prometheus/fig.rules.yml
    """
    _write(shipped.rules(guide), output)


@alerts.command()
@_output
def dashboard(output: Path | None) -> None:
    """Print a dashboard for Grafana, as JSON to be imported.

    Example: fig alerts dashboard --output fig.json
    """
    _write(shipped.dashboard(), output)


@alerts.command()
@click.pass_obj
def targets(fig: Fig) -> None:
    """Print where the processes serve their metrics, as Prometheus' file_sd reads it; fig up keeps it in targets.json.

    Example: fig alerts targets
    """
    from stranglerfig.runtime.datadir import DataDirectory
    from stranglerfig.runtime.supervise import roles_of
    from stranglerfig.runtime.targets import file_sd, further
    from stranglerfig.runtime.targets import targets as endpoints

    ports = DataDirectory(fig.project.data_directory).ports()
    if not ports:
        raise FigError(
            "not_running",
            f"fig has not been started on {fig.project.data_directory}",
            "Start it: fig up (or fig up --detach).",
            directory=str(fig.project.data_directory),
        )
    found = [*endpoints(fig.project, ports, roles_of(fig.project)), *further(fig.project.data_directory)]
    click.echo(orjson.dumps(file_sd(fig.project, found), option=orjson.OPT_INDENT_2).decode())


@alerts.command()
@click.pass_obj
def scrape(fig: Fig) -> None:
    """Print what Prometheus' configuration needs to find this project's processes.

    Example: fig alerts scrape
    """
    from stranglerfig.runtime.targets import scrape_config

    click.echo(scrape_config(fig.project.data_directory), nl=False)


@alerts.command(name="list")
@click.pass_obj
def list_(fig: Fig) -> None:
    """Print the alerts there are; where a webhook is told, which of them fire.

    Example: fig alerts list
    """
    from stranglerfig.runtime.alerting import Book
    from stranglerfig.telemetry.judging import text
    from stranglerfig.telemetry.notices import Notice

    async def work() -> list[Notice]:
        book = Book(fig.control)
        await book.migrate()
        return await book.load()

    told = fig.run(work()) if fig.project.estate.alerts.webhook is not None else []
    firing = [notice for notice in told if notice.ended is None]
    rows: list[dict[str, Any]] = [
        {
            "name": alert.name,
            "severity": alert.severity,
            "condition": alert.promql(),
            "for_seconds": alert.hold,
            "firing": [
                {
                    "labels": dict(each.labels),
                    "since": datetime.fromtimestamp(each.begun, UTC),
                    "value": each.value,
                    "told": each.told,
                    "summary": text(alert.summary, each.labels, each.value),
                }
                for each in firing
                if each.name == alert.name
            ],
        }
        for alert in known.ALL
    ]
    lines = []
    for row in rows:
        lines.append(f"{row['name']}  {row['severity']}  {row['condition']}")
        lines += [f"  fires since {each['since']:%Y-%m-%d %H:%M:%S}: {each['summary']}" for each in row["firing"]]
    fig.print(rows, "\n".join(lines))


@alerts.command()
@click.pass_obj
def test(fig: Fig) -> None:
    """Send the webhook of fig.yaml an alert that begins, and that it is over.

    Example: fig alerts test
    """
    import aiohttp

    from stranglerfig.telemetry.notices import Notice, message

    reference = fig.project.estate.alerts.webhook
    if reference is None:
        raise FigError(
            "no_webhook", "fig.yaml names no webhook to be told of alerts", "Write alerts: {webhook: {env: NAME}}."
        )
    url, estate, now = fig.project.webhook(reference), fig.project.estate.name, clock.epoch()
    begins = Notice("FigProcessDown", (("estate", estate), ("role", "test"), ("instance", "test")), now, now, 0.0)

    async def work() -> list[int]:
        found = []
        async with aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=10)) as session:
            for ended in (None, now):
                told = Notice(begins.name, begins.labels, now, now, 0.0, ended)
                body = orjson.dumps(message(estate, [told]))
                headers = {"Content-Type": "application/json"}
                async with session.post(url, data=body, headers=headers) as answer:
                    found.append(answer.status)
        return found

    try:
        statuses = fig.run(work())
    except (aiohttp.ClientError, OSError, TimeoutError) as error:
        # Its text may have the address, which may hold a secret.
        kind = re.sub(r"(?<!^)(?=[A-Z])", " ", type(error).__name__).lower()
        raise FigError("webhook_failed", f"the webhook does not answer: {kind}", "Look at its address.") from None
    if any(status >= 300 for status in statuses):
        raise FigError("webhook_failed", f"the webhook answered {statuses}", "Look at what it expects.")
    fig.print({"statuses": statuses}, "The webhook took an alert that began, and that it was over.")
