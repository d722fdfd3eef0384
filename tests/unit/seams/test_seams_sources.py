"""What Python sources say: models and their tables, SQL, routes and what they lead to."""

from __future__ import annotations

from pathlib import Path

from stranglerfig.seams.model import Evidence, Use
from stranglerfig.seams.resolving import evidence
from stranglerfig.seams.sources import read


def written(folder: Path, **files: str) -> Evidence:
    for name, text in files.items():
        file = folder / (name.replace("__", "/") + ".py")
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text)
    for below in {file.parent for file in folder.rglob("*.py")} - {folder}:
        (below / "__init__.py").touch()
    return evidence(read(folder))


def keys(found: Evidence) -> set[tuple[str, str]]:
    return {(r.table, r.target) for r in found.references}


def route(found: Evidence, name: str) -> Use:
    return next(use for use in found.of("route") if use.name == name)


def test_djangos_models_and_what_points_where(tmp_path: Path) -> None:
    found = written(
        tmp_path,
        shop__abstract_models="""
from django.conf import settings
from django.db import models

class AbstractItem(models.Model):
    owner = models.ForeignKey(settings.AUTH_USER_MODEL, on_delete=models.CASCADE)
    parent = models.ForeignKey("self", null=True, on_delete=models.CASCADE)
    tags = models.ManyToManyField("Tag")
    through = models.ManyToManyField("Tag", through="shop.ItemTag")
    class Meta:
        abstract = True
        app_label = "stock"
""",
        shop__models="""
from django.db import models
from .abstract_models import *

if True:
    class Item(AbstractItem):
        pass

class Tag(models.Model):
    name = models.CharField(max_length=9)
    class Meta:
        app_label = "stock"

class Price(models.Model):
    item = models.OneToOneField(Item, on_delete=models.CASCADE)
    class Meta:
        db_table = "prices"

class Kept(models.Field):
    pass

class Longest(models.Func):
    output_field = models.IntegerField()
""",
        shop__apps="class Config:\n    name = 'shop'\n    label = 'selling'\n",
        other__models="""
from django.db.models import Model, CharField, ForeignKey
class Thing(Model):
    of = ForeignKey("stock.Item")
    unknown = ForeignKey(whatever)
""",
    )
    assert {table.name for table in found.tables} == {
        "stock_item",
        "stock_item_tags",
        "stock_tag",
        "prices",
        "other_thing",
    }
    assert keys(found) == {
        ("stock_item", "auth_user"),
        ("stock_item", "stock_item"),
        ("stock_item_tags", "stock_item"),
        ("stock_item_tags", "stock_tag"),
        ("prices", "stock_item"),
        ("other_thing", "stock_item"),
    }
    assert next(r.where for r in found.references if r.table == "prices") == "shop/models.py:15"


def test_sqlalchemys_models(tmp_path: Path) -> None:
    found = written(
        tmp_path,
        tables="""
from sqlalchemy import Column, ForeignKey, Integer
class Base: ...
class Order(Base):
    __tablename__ = "orders"
    __table_args__ = {"schema": "sales"}
    customer_id = Column(Integer, ForeignKey("crm.customers.id"))
class Line(Base):
    __tablename__ = "lines"
    order_id: int = mapped_column(ForeignKey("sales.orders.id"))
""",
        work="""
from tables import Line, Order
def place(session):
    session.add(Order())
    return session.query(Line).all()
""",
    )
    assert {table.name for table in found.tables} == {"sales.orders", "lines"}
    assert keys(found) == {("sales.orders", "crm.customers"), ("lines", "sales.orders")}
    (work,) = (use for use in found.of("module") if use.name == "work.py")
    assert (work.writes, work.reads) == ({"sales.orders"}, {"lines"})
    assert [(i.module, i.target, i.where) for i in found.imports] == [("work.py", "tables.py", "work.py:2")]


def test_models_looked_up_by_name_and_what_is_done_with_them(tmp_path: Path) -> None:
    found = written(
        tmp_path,
        shop__models="from django.db import models\nclass Item(models.Model):\n    n = models.IntegerField()\n",
        shop__views="""
from django.apps import apps
Item = apps.get_model("shop", "Item")
def add(request):
    Item.objects.filter(n=1).update(n=2)
def look(request):
    return get_model("far.Away").objects.all()[0], get_user_model().objects.first()
""",
        settings="AUTH_USER_MODEL = 'crm.Person'",
        shop__urls="""
from django.urls import path
from . import views
urlpatterns = [path("items/", views.add), path("away/", views.look, name="x"), path("shown/", View.as_view())]
""",
    )
    assert route(found, "POST /items/").writes == {"shop_item"}
    assert route(found, "GET /away/").reads == {"far_away", "crm_person"}
    assert route(found, "POST /items/").where == "shop/urls.py:4"
    assert route(found, "POST /items/").module == "shop/views.py"


def test_routes_lead_through_methods_and_other_modules_to_sql(tmp_path: Path) -> None:
    found = written(
        tmp_path,
        app__web="""
'''SELECT nothing FROM documentation'''
from flask import Flask
from starlette.routing import Route
from .store import Store, LEVEL
from . import store
app = Flask(__name__)
ONE = f"SELECT {LEVEL} FROM items WHERE id = %s"

class Api:
    def __init__(self):
        self.routes = [Route("/api/items/{id}", self.read), Route("/api/items", self.write, methods=["POST", "PUT"])]
    def read(self, request):
        return self._one(ONE)
    def _one(self, statement):
        return None
    def write(self, request):
        store.keep(Store())

@app.route("/gone", methods=["DELETE"])
def gone():
    db.execute("DELETE FROM items " + "WHERE id = %s" % 1)

@app.get("/nothing")
def nothing():
    return 1
""",
        app__store="""
LEVEL: str = "quantity - reserved"
class Store:
    async def insert(self):
        await db.execute("INSERT INTO items SELECT * FROM {0}".format("drafts"))
def keep(store):
    Store.insert(store)
    db.execute(text("SELECT broken FROM FROM )"))
""",
    )
    assert route(found, "GET /api/items/{id}").reads == {"items"}
    write = route(found, "POST,PUT /api/items")
    assert (write.writes, write.methods) == ({"items"}, {"POST", "PUT"})
    assert route(found, "DELETE /gone").writes == {"items"}
    assert not any("nothing" in use.name for use in found.of("route"))
    assert "documentation" not in {table for use in found.uses for table in use.tables}
    (said,) = found.coverage
    assert said.state == "partly" and "1 strings that look like SQL do not parse" in said.said


def test_files_that_do_not_parse_are_counted_and_tests_passed_over(tmp_path: Path) -> None:
    (tmp_path / "tests").mkdir()
    (tmp_path / "tests" / "more.py").write_text("X = 'SELECT a FROM tested'")
    found = written(
        tmp_path, broken="def (", fine="X = 'SELECT a FROM b'; Y = '\\d'", test_it="X = 'SELECT a FROM tested'"
    )
    assert [use.tables for use in found.of("module")] == [{"b"}]
    assert found.coverage[0].state == "partly" and "1 files do not parse: broken.py" in found.coverage[0].said
