"""What Java sources say: entities and their tables, repositories and queries, routes, and the tables they reach."""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from stranglerfig.seams.java.evidence import evidence
from stranglerfig.seams.java.mapping import snake
from stranglerfig.seams.java.reading import Read, files, parse, read
from stranglerfig.seams.java.syntax import File
from stranglerfig.seams.model import Evidence, Use
from tests.conftest import required


@pytest.fixture(scope="module", autouse=True)
def parser() -> None:
    if find_spec("tree_sitter_java") is None:
        required("the parser for Java is not installed: pip install stranglerfig[java]")


CLINIC = {
    "model/BaseEntity.java": """
package clinic.model;
@MappedSuperclass
public class BaseEntity { @Id @GeneratedValue private Integer id; public Integer getId() { return id; } }
""",
    "owner/Owner.java": """
package clinic.owner;
import clinic.model.BaseEntity;
@Entity
@Table(name = "owners")
public class Owner extends BaseEntity {
    @OneToMany(cascade = CascadeType.ALL, fetch = FetchType.EAGER)
    @JoinColumn(name = "owner_id")
    private final List<Pet> pets = new ArrayList<>();
    @ElementCollection
    private Set<String> phoneNumbers;
    public List<Pet> getPets() { return pets; }
}
""",
    "owner/Pet.java": """
package clinic.owner;
import clinic.model.*;
@Entity
public class Pet extends BaseEntity {
    @ManyToOne private PetType type;
    @OneToMany(mappedBy = "pet", cascade = {CascadeType.PERSIST, CascadeType.MERGE}, orphanRemoval = true)
    private Set<Visit> visits;
    public PetType getType() { return type; }
}
""",
    "owner/PetType.java": """
package clinic.owner;
@Entity @Table(name = "PetTypes", schema = "catalog") class PetType {}
""",
    "owner/Visit.java": """
package clinic.owner;
@Entity
@NamedQuery(name = "Visit.lately", query = "SELECT v FROM Visit v JOIN v.pet p WHERE p.type.name = 'cat from Vet'")
public class Visit { @ManyToOne @JoinColumn(name = "pet_id") private Pet pet; private Fee fee; }
@Embeddable class Fee { @ManyToOne Tariff tariff; }
@Entity class Tariff {}
""",
    "vet/Vet.java": """
package clinic.vet;
@Entity
@SecondaryTable(name = "vet_details")
public class Vet {
    @ManyToMany
    @JoinTable(name = "vet_specialties", joinColumns = @JoinColumn(name = "vet_id"))
    private Set<Specialty> specialties;
    private Set<Vet> friends;
    @ManyToMany public Set<Vet> getFriends() { return friends; }
}
@Entity class Specialty {}
""",
    "owner/Owners.java": """
package clinic.owner;
public interface Owners extends Base<Owner> {
    List<Owner> findByName(String name);
    @Query("select distinct o from #{#entityName} o left join fetch o.pets where o.id = :id")
    Owner whole(@Param("id") int id);
    @Modifying @Query(nativeQuery = true,
        value = "UPDATE owners SET seen = now() WHERE id IN (SELECT owner_id FROM pet)")
    void touch();
}
interface Base<T> extends JpaRepository<T, Integer> {}
""",
    "owner/OwnerService.java": """
package clinic.owner;
public interface OwnerService { Owner find(int id); void save(Owner owner); void remove(int id); }
""",
    "owner/OwnerServiceImpl.java": """
package clinic.owner;
import static clinic.owner.Sql.*;
@Service
class OwnerServiceImpl implements OwnerService {
    private final Owners owners;
    @PersistenceContext EntityManager em;
    JdbcTemplate jdbc;
    OwnerServiceImpl(Owners owners) { this.owners = owners; }
    public Owner find(int id) { return owners.findById(id).orElseThrow(() -> new NotFound("update it first")); }
    public void save(Owner owner) { this.owners.save(owner); }
    public void remove(int id) { var owner = em.find(Owner.class, id); em.remove(owner); }
    List<Visit> visits() { return em.createNamedQuery("Visit.lately", Visit.class).getResultList(); }
    void bill(int id) { jdbc.update(INSERT + "(?, ?1)", id, Sql.OTHER.length()); }
}
class Sql {
    static final String TABLE = "Bills";
    static final String INSERT = "INSERT INTO " + TABLE + " (owner, pet) VALUES ";
    static final String OTHER = \"\"\"
        SELECT * FROM bills b
        JOIN owners o ON o.id = b.owner\"\"\";
}
""",
    "web/OwnerController.java": """
package clinic.web;
import clinic.owner.*;
@RestController
@RequestMapping("/api/owners")
class OwnerController {
    static final String BY_ID = "/{id:[0-9]+}";
    private final OwnerService service;
    private final Owners owners;
    @GetMapping(BY_ID) Owner one(@PathVariable int id) { return service.find(id); }
    @GetMapping(BY_ID + "/types") List<PetType> types(@PathVariable int id) {
        Owner owner = service.find(id);
        for (Pet pet : owner.getPets()) { out.add(pet.getType()); }
        return out;
    }
    @PostMapping void add(@RequestBody Owner owner) { service.save(owner); }
    @RequestMapping(path = {"/{id}", "/by/{id}"}, method = {RequestMethod.DELETE, RequestMethod.POST})
    void gone(@PathVariable int id) { service.remove(id); }
    @PutMapping("/seen/**") void seen() { owners.touch(); }
    @GetMapping("/nothing") String nothing() { return "select nothing"; }
}
@FeignClient("elsewhere") interface Elsewhere { @GetMapping("/elsewhere") Owner get(); }
""",
    "web/VetResource.java": """
package clinic.web;
import clinic.vet.Vet;
@ApplicationPath("api") class Rest extends Application {}
@Path("vets")
class VetResource {
    @Inject EntityManager em;
    @GET @Path("{id}") public Vet get(@PathParam("id") int id) { return em.find(Vet.class, id); }
    @POST public void add(Vet vet) { em.persist(vet); }
}
@WebServlet(urlPatterns = {"/vets.html"})
class VetPage extends HttpServlet {
    private VetResource vets = new VetResource();
    protected void doGet(HttpServletRequest request, HttpServletResponse response) { vets.get(1); }
}
""",
}


def written(folder: Path, sources: dict[str, str], tables: tuple[str, ...] = ()) -> Evidence:
    for name, text in sources.items():
        file = folder / "src/main/java" / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text)
    return evidence(read(folder), tables)


@pytest.fixture(scope="module")
def clinic(tmp_path_factory: pytest.TempPathFactory) -> Evidence:
    return written(tmp_path_factory.mktemp("clinic"), CLINIC)


def use(found: Evidence, name: str) -> Use:
    return next(each for each in found.uses if each.name == name)


def module(found: Evidence, name: str) -> Use:
    return use(found, f"src/main/java/{name}")


def test_entities_stand_for_tables_by_what_is_written_or_by_springs_default(clinic: Evidence) -> None:
    assert {table.name for table in clinic.tables} == {
        *("owners", "owner_phone_numbers", "pet", "catalog.PetTypes", "visit", "tariff"),
        *("vet", "vet_details", "vet_specialties", "vet_friends", "specialty"),
    }
    assert {(r.table, r.target) for r in clinic.references} == {
        ("pet", "owners"),
        ("owner_phone_numbers", "owners"),
        ("pet", "catalog.PetTypes"),
        ("visit", "pet"),
        ("visit", "tariff"),
        ("vet_details", "vet"),
        ("vet_specialties", "vet"),
        ("vet_specialties", "specialty"),
        ("vet_friends", "vet"),
    }
    (key,) = (r for r in clinic.references if r.target == "catalog.PetTypes")
    assert key.where == "src/main/java/owner/Pet.java:6"


def test_the_databases_names_settle_what_an_entity_is_called(tmp_path: Path) -> None:
    sources = {
        "A.java": '@Entity class OrderLine {} @Entity @Table(name = "CUSTOMERS") class C {} @Entity class Item {}',
        "B.java": 'class B { void b() { jdbc.query("SELECT * FROM Order_Line JOIN ITEM USING (id)"); } }',
    }
    found = written(tmp_path, sources, ("OrderLine", "customers", "shop.item", "order_line"))
    assert {table.name for table in found.tables} == {"order_line", "customers", "shop.item"}
    assert use(found, "SELECT * FROM Order_Line JOIN ITEM USING (id)").reads == {"order_line", "shop.item"}
    plain = written(tmp_path, sources, ("OrderLine", "customers"))
    assert "OrderLine" in {table.name for table in plain.tables}
    assert snake("OrderLine2Item") == "order_line2_item" and snake("HTTPLog") == "httplog"


def test_routes_are_followed_through_services_and_repositories(clinic: Evidence) -> None:
    routes = {each.name: (each.reads, each.writes) for each in clinic.of("route")}
    saved = {"owners", "owner_phone_numbers", "pet", "visit"}
    assert routes == {
        "GET /api/owners/{id}": ({"owners"}, set()),
        "GET /api/owners/{id}/types": ({"owners", "pet", "catalog.PetTypes"}, set()),
        "POST /api/owners": (set(), saved),
        "DELETE,POST /api/owners/{id}": (set(), saved),
        "DELETE,POST /api/owners/by/{id}": (set(), saved),
        "PUT /api/owners/seen/{rest:path}": ({"pet"}, {"owners"}),
        "GET /api/vets/{id}": ({"vet", "vet_details"}, set()),
        "POST /api/vets": (set(), {"vet", "vet_details", "vet_specialties", "vet_friends"}),
        "GET /vets.html": ({"vet", "vet_details"}, set()),
    }
    one = use(clinic, "GET /api/owners/{id}")
    assert (
        one.where == "src/main/java/web/OwnerController.java:10"
        and one.module == "src/main/java/web/OwnerController.java"
    )
    assert one.places == {"owners": "src/main/java/owner/OwnerServiceImpl.java:10"}


def test_files_touch_what_their_methods_do_and_not_what_they_define(clinic: Evidence) -> None:
    service = module(clinic, "owner/OwnerServiceImpl.java")
    assert service.writes == {"owners", "owner_phone_numbers", "pet", "visit", "Bills"}
    assert service.reads == {"catalog.PetTypes"}
    assert service.places["Bills"] == "src/main/java/owner/OwnerServiceImpl.java:14"
    repository = module(clinic, "owner/Owners.java")
    assert (repository.reads, repository.writes) == ({"pet"}, {"owners"})
    assert not {each.name.rpartition("/")[2] for each in clinic.of("module")} & {"Owner.java", "Pet.java", "Visit.java"}


def test_queries_over_entities_and_in_sql_tie_their_tables(clinic: Evidence) -> None:
    found = {each.where.rpartition("/")[2]: (set(each.reads), set(each.writes)) for each in clinic.of("statement")}
    assert found == {
        "Visit.java:4": ({"visit", "pet", "catalog.PetTypes"}, set()),
        "Owners.java:5": ({"owners", "pet"}, set()),
        "Owners.java:7": ({"pet"}, {"owners"}),
        "OwnerServiceImpl.java:14": ({"Bills", "owners"}, set()),
    }


def test_a_file_depends_on_those_whose_types_it_names_without_importing_them(clinic: Evidence) -> None:
    found = {(i.module.rpartition("/")[2], i.target.rpartition("/")[2]) for i in clinic.imports}
    assert {("OwnerController.java", "OwnerService.java"), ("Owner.java", "Pet.java")} <= found
    assert ("VetResource.java", "Vet.java") in found and ("Pet.java", "BaseEntity.java") in found
    (imported,) = (i for i in clinic.imports if i.module.endswith("VetResource.java"))
    assert imported.where == "src/main/java/web/VetResource.java:3"


def test_what_was_read_is_said_and_what_does_not_parse_as_well(clinic: Evidence, tmp_path: Path) -> None:
    (said,) = clinic.coverage
    assert (said.source, said.state) == ("java", "read")
    assert said.said == "11 files, 7 entities, 5 queries, 10 routes, 9 of which reach tables"
    sources = {
        "A.java": "@Entity class A { void a( { } @Entity class B { @ManyToOne B b; }",
        "Deep.java": "class Deep { int x = " + "(" * 5000 + "1" + ")" * 5000 + "; }",
        "Sql.java": 'class Sql { void x() { run("SELECT FROM WHERE )"); run("delete from old"); } }',
        "test/Fine.java": "@Entity class Fine {}",
        "OwnerTest.java": "@Entity class Tested {}",
    }
    (tmp_path / "target/generated").mkdir(parents=True)
    (tmp_path / "target/generated/G.java").write_text("@Entity class G {}")
    found = written(tmp_path, sources)
    assert "fine" in {table.name for table in found.tables} and not {"g", "tested"} & {t.name for t in found.tables}
    assert use(found, "src/main/java/Sql.java").writes == {"old"}
    (said,) = found.coverage
    assert said.state == "partly" and "1 strings that look like SQL do not parse" in said.said
    assert "2 files do not parse, or in part only: src/main/java/A.java, src/main/java/Deep.java" in said.said


def test_a_long_sum_of_texts_is_one(tmp_path: Path) -> None:
    parts = " + ".join(['"SELECT * "', *['" "'] * 3000, '"FROM a JOIN b USING (id)"'])
    found = written(tmp_path, {"Long.java": f"class Long {{ void x() {{ run({parts}); }} }}"})
    assert module(found, "Long.java").reads == {"a", "b"}


def test_hierarchies_of_entities_share_tables_as_they_say(tmp_path: Path) -> None:
    found = written(
        tmp_path,
        {
            "A.java": "@Entity class Payment {} @Entity class Card extends Payment {}"
            "@Entity @Inheritance(strategy = InheritanceType.JOINED) class Party {}"
            "@Entity class Firm extends Party {}",
            "B.java": "class B { EntityManager m; void b(Card c, Firm f) { m.persist(c); m.merge(f); m.close(); } }",
        },
    )
    assert {table.name for table in found.tables} == {"payment", "party", "firm"}
    assert [(r.table, r.target) for r in found.references] == [("firm", "party")]
    assert module(found, "B.java").writes == {"payment", "party", "firm"}


MORE = {
    "shop/Cart.java": """
package shop;
@Entity public class Cart {
    @OneToMany(targetEntity = Line.class) private Collection lines;
    @ManyToOne private shop.Customer customer;
    @OneToOne(mappedBy = "cart") private Receipt receipt;
    public Receipt receipt() { return receipt; }
}
@Entity class Line { @EmbeddedId LineKey key; }
@Embeddable class LineKey { @ManyToOne Product product; }
@Entity class Product {}
@Entity class Customer {}
@Entity class Receipt { @OneToOne Cart cart; }
@Table("archived_carts") record Archived(@Id long id, String name) {}
""",
    "shop/Carts.java": """
package shop;
@RepositoryDefinition(domainClass = Cart.class, idClass = Long.class)
interface Carts {
    Optional<Cart> findOne(long id);
    @Query("delete from Cart c where c.customer.name in :names") void purge(String... names);
    @Query("select l from Cart c, Line l join l.key k where c.id = 'x, Product p'") List<Line> lines();
}
interface Archive extends ListCrudRepository<Archived, Long> {}
@Mapper interface Products {
    @Select({"select * from product p", "join line l on l.product_id = p.id", "where p.id = #{id} and ${more}"})
    Product product(long id);
}
""",
    "shop/Shop.java": """
package shop;
public class Shop<T extends Cart> extends Base {
    enum Kind { SMALL { int size() { return count("select * from customer"); } }; int size() { return 0; } }
    private static final Products PRODUCTS;
    static { PRODUCTS = new Products[] { null }[0]; warm("select 1 from receipt"); }
    private final Map<String, Archive> archives = new HashMap<>();
    private Carts carts;
    Shop(Carts carts) { this.carts = carts; new SimpleJdbcInsert(source).withTableName("customer"); }
    void archive(Archived... all) { for (Archived each : all) archives.get("x").save(each); }
    void later(Runnable r) { run(new Runnable() { public void run() { PRODUCTS.product(1); } }); }
    void purge(List<String> names) { names.forEach(carts::purge); }
    Receipt receipt(Object any) { var cart = (Cart) any; try (Closing c = open()) { return cart.receipt(); } }
    Receipt[] found(long id) { return new Receipt[] { carts.findOne(id).orElseThrow().receipt() }; }
    void criteria(CriteriaBuilder b) { b.createQuery(Cart.class).from(Cart.class); Line.class.getName(); }
    void all() { super.base(); this.archive(); Base.both(1, 2); nothing().more(); }
    class Inner { void inner() { carts.lines(); all(); } }
}
class Base { void base() { jdbc("UPDATE product SET n = " + (1 + 2)); } static void both(int a, int b) {} }
""",
    "web/Web.java": """
package web;
import shop.Shop;
interface Api { @GetMapping(path = "/inner/{*rest}") void inner(); }
@Controller class Web extends Before implements Api {
    private Shop<?> shop = new Shop<>(null);
    @Override public void inner() { shop.all(); }
    @RequestMapping("/kinds/*") int kinds() { return Shop.Kind.SMALL.size(); }
    @PatchMapping void purge(java.util.List<String> names) { shop.purge(names); }
    @DeleteMapping("/later") public void later() { shop.later(null); }
}
class Before { private shop.Carts before; @ModelAttribute Object cart() { return before.findOne(1); } }
""",
}


def test_what_else_programs_are_written_with(tmp_path: Path) -> None:
    found = written(tmp_path, MORE)
    assert {(r.table, r.target) for r in found.references} == {
        ("cart_lines", "cart"),
        ("cart_lines", "line"),
        ("cart", "customer"),
        ("line", "product"),
        ("receipt", "cart"),
    }
    carts = module(found, "shop/Carts.java")
    assert (carts.writes, carts.reads) == ({"cart"}, {"customer", "line", "product"})
    shop = module(found, "shop/Shop.java")
    assert shop.writes == {"customer", "archived_carts", "product"}
    assert shop.reads == {"receipt", "cart"}
    assert {each.name: (set(each.reads), set(each.writes)) for each in found.of("route")} == {
        "GET /inner/{rest:path}": ({"cart"}, {"archived_carts", "product"}),
        "GET /kinds/{any}": ({"cart", "customer"}, set()),
        "PATCH /": ({"customer"}, {"cart"}),
        "DELETE /later": ({"cart", "line", "product"}, set()),
    }


WORDS = st.sampled_from(
    [
        *("class", "interface", "record", "{", "}", "(", ")", "<", ">", "@Entity", "@Table(name=", "@Query(", "new"),
        *(
            "@GetMapping",
            "@ManyToOne",
            '"select a from B b"',
            '""',
            '"""',
            "extends",
            "implements",
            "A",
            "B",
            ".x",
            "x.",
        ),
        *("::", "->", "+", ";", ",", "import", "package", "*", "this", "return", "List<A>", "JpaRepository<A,Long>"),
        *("a", "b", "=", "void", "X.class", '@Path("{")', "//", "/*", "*/", "'c"),
    ]
)


@given(st.lists(WORDS, max_size=60).map(" ".join) | st.text(max_size=200), st.booleans())
def test_no_text_is_too_strange(text: str, known: bool) -> None:
    file = parse(text.encode(errors="replace"), "X.java")
    other = parse(b"@Entity class A {} @Entity class B { @ManyToOne A a; }", "Y.java")
    found = evidence(Read((file, other), ()), ("b",) if known else ())
    assert {"a", "b"} <= {table.name for table in found.tables}


@given(st.binary(max_size=100))
def test_no_bytes_are_too_strange(data: bytes) -> None:
    assert isinstance(parse(data, "X.java"), File)


def test_a_folder_without_java_has_none(tmp_path: Path) -> None:
    assert files(tmp_path) == [] and evidence(read(tmp_path)).tables == ()
