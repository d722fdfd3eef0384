-- name: create_topic
-- Returns whether it was made now.
WITH made AS (
    INSERT INTO fig.pubsub_topic (log, name, partitions, retention)
    VALUES (%(log)s, %(name)s, %(partitions)s, %(retention)s)
    ON CONFLICT DO NOTHING RETURNING id
), numbered AS (
    INSERT INTO fig.pubsub_partition (topic_id, partition)
    SELECT made.id, number FROM made, generate_series(0, %(partitions)s::int - 1) AS number
)
SELECT count(*) > 0 FROM made

-- name: add_partitions
WITH grown AS (
    UPDATE fig.pubsub_topic SET partitions = %(partitions)s
    WHERE (log, name) = (%(log)s, %(name)s) AND partitions < %(partitions)s RETURNING id
)
INSERT INTO fig.pubsub_partition (topic_id, partition)
SELECT grown.id, number FROM grown, generate_series(0, %(partitions)s::int - 1) AS number
ON CONFLICT DO NOTHING

-- name: delete_topic
WITH gone AS (DELETE FROM fig.pubsub_topic WHERE (log, name) = (%(log)s, %(name)s) RETURNING id)
DELETE FROM fig.pubsub_batch WHERE topic_id IN (SELECT id FROM gone)

-- name: topics
-- All of the log's, or the one that is named.
SELECT t.id, t.name, t.partitions, t.retention, array_agg(p.next ORDER BY p.partition)
FROM fig.pubsub_topic AS t JOIN fig.pubsub_partition AS p ON p.topic_id = t.id
WHERE t.log = %(log)s AND t.name = coalesce(%(name)s::text, t.name)
GROUP BY t.id ORDER BY t.name

-- name: append
-- Gives batches that are published their positions: in order of the partitions, so that two producers cannot wait for
-- each other. Times are read while the partition's row is held, so that they grow with the positions.
WITH locked AS (
    SELECT p.partition, g.count FROM fig.pubsub_partition AS p
    JOIN unnest(%(partitions)s::int[], %(counts)s::int[]) AS g (partition, count) ON g.partition = p.partition
    WHERE p.topic_id = %(topic)s ORDER BY p.partition FOR UPDATE OF p
), given AS (
    UPDATE fig.pubsub_partition AS p SET next = p.next + l.count FROM locked AS l
    WHERE p.topic_id = %(topic)s AND p.partition = l.partition
    RETURNING p.partition, p.next - l.count AS first, l.count
)
INSERT INTO fig.pubsub_batch (topic_id, partition, first, count, batch, published_at, appended_at)
SELECT %(topic)s, partition, first, count, %(batch)s, %(published_at)s, clock_timestamp() FROM given
RETURNING partition, first

-- name: batches
-- What is at a position and behind it.
SELECT first, count, batch, published_at, appended_at FROM fig.pubsub_batch
WHERE topic_id = %(topic)s AND partition = %(partition)s AND first >= (
    SELECT coalesce(max(first), 0) FROM fig.pubsub_batch
    WHERE topic_id = %(topic)s AND partition = %(partition)s AND first <= %(position)s
) AND first + count > %(position)s
ORDER BY first LIMIT %(most)s

-- name: bounds
-- The lowest position that is kept, and the next one.
SELECT first, next FROM fig.pubsub_partition WHERE topic_id = %(topic)s AND partition = %(partition)s

-- name: position_at
SELECT coalesce(
    (SELECT first FROM fig.pubsub_batch
     WHERE topic_id = %(topic)s AND partition = %(partition)s AND appended_at >= %(time)s
     ORDER BY appended_at, first LIMIT 1),
    (SELECT next FROM fig.pubsub_partition WHERE topic_id = %(topic)s AND partition = %(partition)s)
)

-- name: firsts
-- Where a group that is new begins.
SELECT t.name, p.partition, p.first FROM fig.pubsub_topic AS t JOIN fig.pubsub_partition AS p ON p.topic_id = t.id
WHERE t.log = %(log)s AND t.name = ANY(%(names)s::text[])

-- name: expire
-- Forgets batches that Pub/Sub no longer keeps; returns how many.
WITH gone AS (
    DELETE FROM fig.pubsub_batch
    WHERE topic_id = %(topic)s AND published_at < clock_timestamp() - make_interval(secs => %(retention)s)
    RETURNING partition, first + count AS following
), moved AS (
    UPDATE fig.pubsub_partition AS p SET first = greatest(p.first, g.following)
    FROM (SELECT partition, max(following) AS following FROM gone GROUP BY partition) AS g
    WHERE p.topic_id = %(topic)s AND p.partition = g.partition
)
SELECT count(*) FROM gone
