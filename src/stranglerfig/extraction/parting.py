"""Several partitions of one context's forward changes: which tables are divided by key, and what stands in the way."""

from __future__ import annotations

from stranglerfig.changes.mapping import compile_mapping
from stranglerfig.changes.spread import Divided, divide_tables
from stranglerfig.databases import catalogue
from stranglerfig.databases.model import Finding
from stranglerfig.extraction.parts import ContextParts
from stranglerfig.foundation import postgres
from stranglerfig.sync import origins


async def divided(monolith: str, context: ContextParts, *, retired: bool) -> Divided:
    """Which of the context's tables are divided, by the mapping and both catalogues as they are.

    Raises:
        FigError: what the mapping is refused with; ``database_unreachable``.
    """
    settings = context.settings
    async with (
        postgres.session(monolith, what="parting") as source,
        postgres.session(context.service_dsn, what="parting") as service,
    ):
        inputs = await catalogue.tables(source, context.sources(retired))
        outputs = await catalogue.tables(service, settings.targets)
        mapping = compile_mapping(context.tables(retired), inputs, outputs)
        excluding = await catalogue.excluding(service, settings.targets)
    return divide_tables(mapping.forward, inputs, outputs, excluding, settings.derive)


async def findings(monolith: str, context: ContextParts) -> list[Finding]:
    """What ``partitions`` in ``extraction.yaml`` comes to, and what it lacks; nothing for one partition."""
    settings = context.settings
    if settings.partitions == 1:
        return []
    found = []
    async with postgres.session(context.service_dsn, what="parting") as service:
        role = await origins.lacks_replica_role(service)
    if role is not None:
        error = origins.no_replica_role(role)
        statement = str(error.context["statement"])
        found.append(Finding(error.code, "refuse", error.message, error.remedy, {"role": role}, (statement,)))
    tables = await divided(monolith, context, retired=False)
    found += [
        Finding(
            "table_not_divided",
            "warn",
            f"all changes of {table} go through the first partition: {reason}",
            "Nothing, when the other tables have most of the changes.",
            {"table": table},
        )
        for table, reason in tables.whole.items()
    ]
    if not tables.keys:
        found.append(
            Finding(
                "nothing_divided",
                "refuse",
                f"partitions: {settings.partitions} divides nothing: no table can be divided by its key",
                "Set partitions: 1.",
            )
        )
    return found
