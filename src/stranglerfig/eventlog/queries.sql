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
DELETE FROM fig.log_record WHERE topic_id = %s

-- name: lock_partition
SELECT next FROM fig.log_partition WHERE topic_id = %s AND partition = %s FOR UPDATE

-- name: append
-- One round trip: takes the partition's lock with the positions, writes, wakes readers. A duplicate id fails it whole.
WITH place AS (
    UPDATE fig.log_partition SET next = next + %(count)s
    WHERE topic_id = %(topic)s AND partition = %(partition)s
    RETURNING next - %(count)s AS base
), written AS (
    INSERT INTO fig.log_record
        (topic_id, partition, position, appended_at, time, event_id, source, type, content_type, key, attributes, data)
    SELECT %(topic)s, %(partition)s, place.base + e.number, clock_timestamp(), e.time, e.id, e.source, e.type,
           e.content_type, e.key, e.attributes, e.data
    FROM place, unnest(%(numbers)b::bigint[], %(times)b::timestamptz[], %(ids)b::text[], %(sources)b::text[],
                       %(types)b::text[], %(content_types)b::text[], %(keys)b::text[], %(attributes)b::jsonb[],
                       %(datas)b::bytea[])
         AS e(number, time, id, source, type, content_type, key, attributes, data)
)
SELECT base, pg_notify('fig_log', %(channel)s) FROM place

-- name: known
-- Which of these ids the topic has already, and where.
SELECT event_id, position FROM fig.log_record WHERE topic_id = %s AND event_id = ANY (%s)

-- name: read
-- Bounded by count and by bytes, at least one; the length of a value stored out of line is known without reading it.
SELECT position, appended_at, time, event_id, source, type, content_type, key, attributes, data
FROM (
    SELECT *, sum(octet_length(data)) OVER (ORDER BY position) - octet_length(data) AS bytes_before
    FROM fig.log_record
    WHERE topic_id = %(topic)s AND partition = %(partition)s AND position >= %(position)s
    ORDER BY position LIMIT %(records)s
) AS page
WHERE bytes_before < %(bytes)s
ORDER BY position

-- name: bounds
SELECT first, next FROM fig.log_partition WHERE topic_id = %s AND partition = %s

-- name: appended_at
SELECT appended_at FROM fig.log_record WHERE topic_id = %s AND partition = %s AND position = %s

-- name: expire
WITH gone AS (DELETE FROM fig.log_record WHERE topic_id = %(topic)s AND partition = %(partition)s AND position < %(first)s)
UPDATE fig.log_partition SET first = %(first)s WHERE topic_id = %(topic)s AND partition = %(partition)s AND first < %(first)s

-- name: firsts
SELECT topic_id, partition, first FROM fig.log_partition WHERE topic_id = ANY (%s)
