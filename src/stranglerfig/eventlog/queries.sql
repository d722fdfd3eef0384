-- name: topic
-- A topic with its partitions' next positions.
SELECT t.id, t.name, t.partitions, t.retention,
       (SELECT array_agg(p.next ORDER BY p.partition) FROM fig.log_partition p WHERE p.topic_id = t.id)
FROM fig.log_topic t WHERE t.name = %(name)s

-- name: topics
SELECT t.id, t.name, t.partitions, t.retention, array_agg(p.next ORDER BY p.partition)
FROM fig.log_topic t JOIN fig.log_partition p ON p.topic_id = t.id
GROUP BY t.id ORDER BY t.name

-- name: create_topic
WITH topic AS (
    INSERT INTO fig.log_topic (name, partitions, retention) VALUES (%(name)s, %(partitions)s, %(retention)s)
    ON CONFLICT (name) DO NOTHING RETURNING id
)
INSERT INTO fig.log_partition (topic_id, partition)
SELECT id, number FROM topic, generate_series(0, %(partitions)s - 1) AS number

-- name: add_partitions
WITH topic AS (
    UPDATE fig.log_topic SET partitions = %(partitions)s WHERE name = %(name)s AND partitions < %(partitions)s
    RETURNING id
)
INSERT INTO fig.log_partition (topic_id, partition)
SELECT topic.id, number FROM topic, generate_series(0, %(partitions)s - 1) AS number
ON CONFLICT DO NOTHING

-- name: delete_topic
-- The partitions' locks come first, so that no append is left behind without its topic.
WITH topic AS (DELETE FROM fig.log_topic WHERE name = %(name)s RETURNING id),
     partitions AS (DELETE FROM fig.log_partition p USING topic WHERE p.topic_id = topic.id)
SELECT id FROM topic

-- name: delete_records
WITH ids AS (DELETE FROM fig.log_event WHERE topic_id = %(topic)s)
DELETE FROM fig.log_batch WHERE topic_id = %(topic)s

-- name: append
-- One round trip: writes the ids, takes the partition's lock with the positions, writes the rows, wakes readers. A
-- duplicate id fails it whole. Only the rows are written under the lock, for each append waits for the one before it.
WITH this AS (
    SELECT nextval('fig.log_append') AS append
), ids AS (
    INSERT INTO fig.log_event (append, topic_id, number, event_id)
    SELECT this.append, %(topic)s, e.number - 1, e.id
    FROM this, unnest(%(ids)b::text[]) WITH ORDINALITY AS e(id, number)
    RETURNING 1
), place AS (
    UPDATE fig.log_partition AS p SET next = p.next + written.count
    FROM (SELECT count(*) FROM ids) AS written
    WHERE p.topic_id = %(topic)s AND p.partition = %(partition)s
    RETURNING p.next - written.count AS base
), rows AS (
    INSERT INTO fig.log_batch (topic_id, partition, first, count, append, begins, appended_at, header, data)
    SELECT %(topic)s, %(partition)s, place.base + b.begins, b.count, this.append, b.begins, clock_timestamp(),
           b.header, b.data
    FROM place, this, unnest(%(begins)b::integer[], %(counts)b::integer[], %(headers)b::bytea[], %(datas)b::bytea[])
         AS b(begins, count, header, data)
)
-- Fails, so that no id stays behind, where the partition is gone.
SELECT (SELECT base FROM place), 1 / (SELECT count(*) FROM place), pg_notify('fig_log', %(channel)s)

-- name: known
-- Which of these ids the topic has already, and where.
SELECT e.event_id, b.first - b.begins + e.number
FROM fig.log_event AS e
CROSS JOIN LATERAL (SELECT first, begins FROM fig.log_batch WHERE append = e.append LIMIT 1) AS b
WHERE e.topic_id = %s AND e.event_id = ANY (%s)

-- name: read
-- From the row that holds the position on. Bounded by count and by bytes, at least one; the length of a value that is
-- stored out of line is known without reading it.
SELECT first, appended_at, header, data
FROM (
    SELECT *, sum(octet_length(data)) OVER (ORDER BY first) - octet_length(data) AS bytes_before
    FROM fig.log_batch
    WHERE topic_id = %(topic)s AND partition = %(partition)s
      AND first < %(position)s::bigint + %(records)s AND first + count > %(position)s AND first >= coalesce((
        SELECT max(first) FROM fig.log_batch
        WHERE topic_id = %(topic)s AND partition = %(partition)s AND first <= %(position)s), 0)
    ORDER BY first
) AS page
WHERE bytes_before < %(bytes)s
ORDER BY first

-- name: bounds
SELECT first, next FROM fig.log_partition WHERE topic_id = %s AND partition = %s

-- name: around
-- The row that holds a position, or the next one.
SELECT first, count, appended_at FROM fig.log_batch
WHERE topic_id = %(topic)s AND partition = %(partition)s AND first + count > %(position)s AND first >= coalesce(
    (SELECT max(first) FROM fig.log_batch
     WHERE topic_id = %(topic)s AND partition = %(partition)s AND first <= %(position)s), 0)
ORDER BY first LIMIT 1

-- name: expire
WITH gone AS (
    DELETE FROM fig.log_batch WHERE topic_id = %(topic)s AND partition = %(partition)s AND first < %(first)s
    RETURNING header
), ids AS (
    DELETE FROM fig.log_event AS e
    USING gone, json_array_elements_text(convert_from(gone.header, 'UTF8')::json -> 0) AS g(id)
    WHERE e.topic_id = %(topic)s AND e.event_id = g.id
)
UPDATE fig.log_partition SET first = %(first)s WHERE topic_id = %(topic)s AND partition = %(partition)s AND first < %(first)s

-- name: firsts
SELECT topic_id, partition, first FROM fig.log_partition WHERE topic_id = ANY (%s)
