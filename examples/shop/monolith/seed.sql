-- name: products
-- %(items)s products; everything below follows from their number and %(seed)s.
INSERT INTO products (id, sku, name, price_cents)
SELECT i, 'SKU-' || lpad(i::text, 7, '0'), 'Item ' || i, 100 + (i * 7919 + %(seed)s) %% 9900
FROM generate_series(1, %(items)s) AS i

-- name: customers
INSERT INTO customers (id, name, email)
SELECT i, 'Customer ' || i, 'c' || i || '@example.org'
FROM generate_series(1, greatest(50, %(items)s / 20)) AS i

-- name: orders
-- One past order for every fiftieth item, paid, its stock still reserved.
INSERT INTO orders (id, request_key, customer_id, status, total_cents, created_at)
SELECT i, 'seed:' || i, 1 + i %% 50, 'confirmed', 1000, timestamptz '2026-01-01' + i * interval '1 second'
FROM generate_series(1, greatest(1, %(items)s / 50)) AS i

-- name: order_lines
INSERT INTO order_lines (order_id, line, item_id, qty)
SELECT id, 1, 1 + (id * 37) %% %(items)s, 1 + id %% 3 FROM orders

-- name: payments
INSERT INTO payments (order_id, amount_cents, state, created_at)
SELECT id, total_cents, 'authorised', created_at FROM orders

-- name: inventory
INSERT INTO inventory (item_id, sku, name, quantity, reserved, reorder_level, updated_at)
SELECT p.id, p.sku, p.name, 200 + (p.id * 7919 + %(seed)s) %% 800, coalesce(held.qty, 0), 20 + p.id %% 30,
       timestamptz '2026-01-01' + p.id * interval '1 millisecond'
FROM products AS p
LEFT JOIN (SELECT item_id, sum(qty)::integer AS qty FROM order_lines GROUP BY item_id) AS held ON held.item_id = p.id

-- name: reservations
INSERT INTO reservations (id, item_id, order_id, qty, released, created_at)
SELECT l.order_id, l.item_id, l.order_id, l.qty, false, o.created_at
FROM order_lines AS l JOIN orders AS o ON o.id = l.order_id

-- name: sequences
SELECT setval(pg_get_serial_sequence(t, 'id'), greatest(m, 1))
FROM (
    SELECT 'products', max(id) FROM products
    UNION ALL SELECT 'customers', max(id) FROM customers
    UNION ALL SELECT 'orders', max(id) FROM orders
    UNION ALL SELECT 'reservations', max(id) FROM reservations
) AS s (t, m)

-- name: analyze
ANALYZE
