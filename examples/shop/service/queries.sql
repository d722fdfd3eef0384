-- name: read
-- One item as the API shows it; the same fields in the same order as the monolith's.
SELECT json_build_object('item_id', l.item_id, 'sku', i.sku, 'name', i.name, 'on_hand', on_hand, 'reserved', reserved,
    'available', on_hand - reserved, 'reorder_level', reorder_level,
    'updated_at', to_char(updated_at AT TIME ZONE 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.US"Z"'))::text
FROM stock_level AS l JOIN inventory_item AS i USING (item_id) WHERE item_id = %s

-- name: level
-- What a decision needs: the level, and the answer if this request was answered before.
SELECT (SELECT response::text FROM processed_request WHERE key = %(key)s), l.item_id, l.on_hand, l.reserved
FROM (SELECT 1) AS always LEFT JOIN stock_level AS l ON l.item_id = %(item_id)s

-- name: reservation
-- The same for a release: the reservation and the level it counts in.
SELECT (SELECT response::text FROM processed_request WHERE key = %(key)s), l.item_id, l.on_hand, l.reserved,
    r.quantity, r.state
FROM (SELECT 1) AS always
LEFT JOIN reservation AS r ON r.reservation_id = %(reservation_id)s LEFT JOIN stock_level AS l USING (item_id)

-- name: adjust
-- State, idempotency key and event in one statement, which is one transaction. Nothing happens when the level is no
-- longer the one that was decided on; a key that is there already fails all of it.
WITH changed AS (
    UPDATE stock_level SET on_hand = %(on_hand)s, updated_at = clock_timestamp()
    WHERE item_id = %(item_id)s AND (on_hand, reserved) = (%(old_on_hand)s, %(old_reserved)s)
    RETURNING *
), answered AS (
    SELECT jsonb_build_object('item_id', l.item_id, 'sku', i.sku, 'name', i.name, 'on_hand', on_hand,
        'reserved', reserved, 'available', on_hand - reserved, 'reorder_level', reorder_level,
        'updated_at', to_char(updated_at AT TIME ZONE 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.US"Z"')) AS response
    FROM changed AS l JOIN inventory_item AS i USING (item_id)
), published AS (
    INSERT INTO outbox (id, topic, type, key, data, traceparent, correlationid, subject)
    SELECT %(event_id)s::uuid, 'events.inventory', %(type)s, item_id::text, %(event)s::jsonb, %(traceparent)s, %(key)s, item_id::text
    FROM changed
)
INSERT INTO processed_request (key, kind, item_id, delta, response)
SELECT %(key)s, 'adjust', %(item_id)s, %(delta)s, response FROM answered RETURNING response::text

-- name: reserve
WITH changed AS (
    UPDATE stock_level SET reserved = %(reserved)s, updated_at = clock_timestamp()
    WHERE item_id = %(item_id)s AND (on_hand, reserved) = (%(old_on_hand)s, %(old_reserved)s)
    RETURNING *
), held AS (
    INSERT INTO reservation (item_id, order_ref, quantity)
    SELECT item_id, %(order_ref)s::bigint, %(quantity)s FROM changed RETURNING reservation_id
), answered AS (
    SELECT jsonb_build_object('item_id', l.item_id, 'sku', i.sku, 'name', i.name, 'on_hand', on_hand,
        'reserved', reserved, 'available', on_hand - reserved, 'reorder_level', reorder_level,
        'updated_at', to_char(updated_at AT TIME ZONE 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.US"Z"'),
        'reservation_id', reservation_id) AS response
    FROM held, changed AS l JOIN inventory_item AS i USING (item_id)
), published AS (
    INSERT INTO outbox (id, topic, type, key, data, traceparent, correlationid, subject)
    SELECT %(event_id)s::uuid, 'events.inventory', %(type)s, %(item_id)s::text,
        %(event)s::jsonb || jsonb_build_object('reservation_id', reservation_id), %(traceparent)s, %(key)s,
        %(item_id)s::text
    FROM held
)
INSERT INTO processed_request (key, kind, item_id, delta, response)
SELECT %(key)s, 'reserve', %(item_id)s, %(delta)s, response FROM answered RETURNING response::text

-- name: release
WITH changed AS (
    UPDATE stock_level SET reserved = %(reserved)s, updated_at = clock_timestamp()
    WHERE item_id = %(item_id)s AND (on_hand, reserved) = (%(old_on_hand)s, %(old_reserved)s)
        AND EXISTS (SELECT FROM reservation WHERE reservation_id = %(reservation_id)s AND state = 'held' FOR UPDATE)
    RETURNING *
), freed AS (
    UPDATE reservation SET state = 'released' FROM changed WHERE reservation_id = %(reservation_id)s
), answered AS (
    SELECT jsonb_build_object('item_id', l.item_id, 'sku', i.sku, 'name', i.name, 'on_hand', on_hand,
        'reserved', reserved, 'available', on_hand - reserved, 'reorder_level', reorder_level,
        'updated_at', to_char(updated_at AT TIME ZONE 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.US"Z"'),
        'reservation_id', %(reservation_id)s) AS response
    FROM changed AS l JOIN inventory_item AS i USING (item_id)
), published AS (
    INSERT INTO outbox (id, topic, type, key, data, traceparent, correlationid, subject)
    SELECT %(event_id)s::uuid, 'events.inventory', %(type)s, item_id::text, %(event)s::jsonb, %(traceparent)s, %(key)s, item_id::text
    FROM changed
)
INSERT INTO processed_request (key, kind, item_id, delta, response)
SELECT %(key)s, 'release', %(item_id)s, %(delta)s, response FROM answered RETURNING response::text
