"""django-oscar as a monolith whose contexts are known: its schema on a real PostgreSQL, its sources, its app labels.

It is installed from PyPI into an environment of its own (BSD-3-Clause; nothing of it is copied here). What the search
is given has neither its tables' nor its modules' names: :func:`anonymous` gives all of them numbers.
"""

from __future__ import annotations

import json
import os
import random
import subprocess
import sys
from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from itertools import combinations
from pathlib import Path

from psycopg import conninfo

from stranglerfig.seams.model import Evidence, Import, Reference, Table, known

VERSION = "4.2.1"
NOT_OSCAR = frozenset({"sessions", "sites", "flatpages"})
"""Labels of Django's own that django-oscar needs installed and does not touch."""
SETTINGS = """
from oscar.defaults import *

class NoMigrations(dict):
    def __contains__(self, item): return True
    def __getitem__(self, item): return None

MIGRATION_MODULES = NoMigrations()  # tables are made as the models say
SECRET_KEY, SITE_ID, USE_TZ, MIDDLEWARE = "test", 1, True, []
DEFAULT_AUTO_FIELD = "django.db.models.AutoField"
HAYSTACK_CONNECTIONS = {"default": {"ENGINE": "haystack.backends.simple_backend.SimpleEngine"}}
DATABASES = {"default": {"ENGINE": "django.db.backends.postgresql", **DATABASE}}
_DJANGO = "auth contenttypes sessions messages sites flatpages".split()
_APPS = {
    "analytics": "Analytics", "checkout": "Checkout", "address": "Address", "shipping": "Shipping",
    "catalogue": "Catalogue", "catalogue.reviews": "CatalogueReviews", "communication": "Communication",
    "partner": "Partner", "basket": "Basket", "payment": "Payment", "offer": "Offer", "order": "Order",
    "customer": "Customer", "search": "Search", "voucher": "Voucher", "wishlists": "Wishlists",
    "dashboard": "Dashboard",
}
_BOARDS = "reports users orders catalogue offers partners pages ranges reviews vouchers communications shipping".split()
INSTALLED_APPS = [
    *(f"django.contrib.{name}" for name in _DJANGO), "oscar.config.Shop",
    *(f"oscar.apps.{name}.apps.{config}Config" for name, config in _APPS.items()),
    *(f"oscar.apps.dashboard.{name}.apps.{name.capitalize()}DashboardConfig" for name in _BOARDS),
    "widget_tweaks", "haystack", "treebeard", "django_tables2",
]
"""
LABELS = """
import json, django
django.setup()
from django.apps import apps
models = apps.get_models(include_auto_created=True)
print(json.dumps({m._meta.db_table: m._meta.app_label for m in models if m._meta.managed and not m._meta.proxy}))
"""


def install(folder: Path) -> Path:
    """Install it; returns the folder of its sources."""
    python = folder / "bin" / "python"
    if not python.exists():
        subprocess.run([sys.executable, "-m", "venv", "--without-pip", str(folder)], check=True, timeout=60)
        pip = [
            sys.executable,
            "-m",
            "pip",
            "--python",
            str(python),
            "install",
            "--quiet",
            "--disable-pip-version-check",
        ]
        packages = [f"django-oscar=={VERSION}", "django>=5.2,<5.3", "psycopg[binary]>=3.2"]
        subprocess.run([*pip, *packages], check=True, timeout=300)
    (sources,) = folder.glob("lib/python3*/site-packages/oscar")
    return sources


def create(folder: Path, dsn: str) -> dict[str, str]:
    """Make its tables in a database; returns the truth: the app label of each table."""
    parts = conninfo.conninfo_to_dict(dsn)
    names = {"NAME": "dbname", "HOST": "host", "PORT": "port", "USER": "user"}
    database = {ours: str(parts[theirs]) for ours, theirs in names.items()}
    (folder / "oscar_settings.py").write_text(f"DATABASE = {database!r}\n{SETTINGS}")
    environment = {"PATH": os.environ["PATH"], "PYTHONPATH": str(folder), "DJANGO_SETTINGS_MODULE": "oscar_settings"}
    python = [str(folder / "bin" / "python"), "-W", "ignore"]
    migrate = [*python, "-m", "django", "migrate", "--run-syncdb"]
    subprocess.run(migrate, env=environment, check=True, capture_output=True, timeout=120)
    told = subprocess.run([*python, "-c", LABELS], env=environment, check=True, capture_output=True, timeout=60)
    return dict(json.loads(told.stdout))


def anonymous(evidence: Evidence, seed: int) -> tuple[Evidence, dict[str, str]]:
    """The evidence with numbers in place of all names, in an order of chance; and the table behind each number.

    A module keeps what it imports and touches, and loses its folder: which modules belong to one app is not told.
    """
    chance = random.Random(seed)

    def numbered(names: set[str], letter: str) -> dict[str, str]:
        mixed = sorted(names)
        chance.shuffle(mixed)
        return {name: f"{letter}{number:03d}" for number, name in enumerate(mixed)}

    tables = numbered({table.name for table in evidence.tables}, "t")
    modules = {use.name for use in evidence.of("module")} | {use.module for use in evidence.uses if use.module}
    module = numbered(modules | {name for each in evidence.imports for name in (each.module, each.target)}, "m")
    uses = [
        replace(
            use,
            name=module.get(use.name, f"u{number}"),
            where="",
            reads=frozenset(tables[name] for name in use.reads),
            writes=frozenset(tables[name] for name in use.writes),
            counts={tables[name]: count for name, count in use.counts.items() if name in tables},
            excerpt="",
            module=module.get(use.module, ""),
            places={},
        )
        for number, use in enumerate(evidence.uses)
    ]
    found = Evidence(
        tuple(Table(name) for name in sorted(tables.values())),
        tuple(Reference(tables[r.table], tables[r.target], "") for r in evidence.references),
        tuple(uses),
        tuple(Import(module[each.module], module[each.target], "") for each in evidence.imports),
    )
    return known(found), {number: name for name, number in tables.items()}


def pairwise_f1(parts: Sequence[frozenset[str]], truth: dict[str, str]) -> float:
    """The harmonic mean of precision and recall over all pairs of tables: in one part, and of one label."""
    of = {name: index for index, part in enumerate(parts) for name in part}
    pairs = Counter((of[a] == of[b], truth[a] == truth[b]) for a, b in combinations(sorted(of), 2))
    hits = pairs[True, True]
    return 2 * hits / (2 * hits + pairs[True, False] + pairs[False, True])
