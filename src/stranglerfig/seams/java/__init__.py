"""What Java sources say of tables: JPA's entities, repositories, queries, and the routes that lead to them."""
