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

-- name: delete_topic
-- The partitions' locks come first, so that no append is left behind without its topic.
WITH topic AS (DELETE FROM fig.log_topic WHERE name = %(name)s RETURNING id),
     partitions AS (DELETE FROM fig.log_partition p USING topic WHERE p.topic_id = topic.id),
     groups AS (DELETE FROM fig.log_group g USING topic WHERE g.topic_id = topic.id)
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

-- name: join_group
INSERT INTO fig.log_group (topic_id, partition, grp, position)
SELECT topic_id, partition, %(group)s, first FROM fig.log_partition WHERE topic_id = ANY (%(topics)s)
ON CONFLICT DO NOTHING

-- name: alive
-- Says that a member lives; forgets those that do not.
WITH gone AS (DELETE FROM fig.log_member WHERE grp = %(group)s AND lease_until < clock_timestamp() AND member <> %(member)s)
INSERT INTO fig.log_member (grp, member, lease_until)
VALUES (%(group)s, %(member)s, clock_timestamp() + make_interval(secs => %(lease)s))
ON CONFLICT (grp, member) DO UPDATE SET lease_until = excluded.lease_until

-- name: share
-- How many partitions there are to share, and among how many members.
SELECT (SELECT count(*) FROM fig.log_group WHERE grp = %(group)s AND topic_id = ANY (%(topics)s)),
       (SELECT count(*) FROM fig.log_member WHERE grp = %(group)s AND lease_until >= clock_timestamp())

-- name: renew
-- Renews what this member still holds.
UPDATE fig.log_group SET lease_until = clock_timestamp() + make_interval(secs => %(lease)s)
WHERE grp = %(group)s AND topic_id = ANY (%(topics)s) AND member = %(member)s AND lease_until >= clock_timestamp()
RETURNING topic_id, partition, position

-- name: claim
-- Takes partitions that nobody holds, or whose holder has not renewed.
UPDATE fig.log_group g
SET member = %(member)s, lease_until = clock_timestamp() + make_interval(secs => %(lease)s)
FROM (
    SELECT topic_id, partition FROM fig.log_group
    WHERE grp = %(group)s AND topic_id = ANY (%(topics)s) AND (member IS NULL OR lease_until < clock_timestamp())
    ORDER BY topic_id, partition LIMIT %(count)s FOR UPDATE SKIP LOCKED
) AS free
WHERE g.grp = %(group)s AND g.topic_id = free.topic_id AND g.partition = free.partition
RETURNING g.topic_id, g.partition, g.position

-- name: release
UPDATE fig.log_group SET member = NULL, lease_until = NULL
WHERE grp = %s AND topic_id = %s AND partition = %s AND member = %s

-- name: leave
WITH released AS (
    UPDATE fig.log_group SET member = NULL, lease_until = NULL WHERE grp = %(group)s AND member = %(member)s
)
DELETE FROM fig.log_member WHERE grp = %(group)s AND member = %(member)s

-- name: commit
UPDATE fig.log_group SET position = greatest(position, %(position)s)
WHERE grp = %(group)s AND topic_id = %(topic)s AND partition = %(partition)s
  AND member = %(member)s AND lease_until >= clock_timestamp()
RETURNING position

-- name: committed
SELECT partition, position FROM fig.log_group WHERE topic_id = %s AND grp = %s ORDER BY partition

-- name: groups
SELECT DISTINCT grp FROM fig.log_group WHERE topic_id = %s ORDER BY grp

-- name: seek
-- Whoever holds the partition loses it, so that it begins again at the new place.
INSERT INTO fig.log_group (topic_id, partition, grp, position)
VALUES (%(topic)s, %(partition)s, %(group)s, %(position)s)
ON CONFLICT (topic_id, partition, grp) DO UPDATE SET position = excluded.position, member = NULL, lease_until = NULL
