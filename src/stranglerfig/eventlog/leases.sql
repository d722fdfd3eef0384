-- name: join
-- New places begin where their topic begins.
INSERT INTO fig.lease (log, topic, partition, grp, position)
SELECT %(log)s, p.topic, p.partition, %(group)s, p.position
FROM unnest(%(topics)s::text[], %(partitions)s::bigint[], %(positions)s::numeric[]) AS p (topic, partition, position)
ON CONFLICT DO NOTHING

-- name: alive
-- Says that a member lives; forgets those that do not.
WITH gone AS (
    DELETE FROM fig.lease_member
    WHERE (log, grp) = (%(log)s, %(group)s) AND lease_until < clock_timestamp() AND member <> %(member)s
)
INSERT INTO fig.lease_member (log, grp, member, lease_until)
VALUES (%(log)s, %(group)s, %(member)s, clock_timestamp() + make_interval(secs => %(lease)s))
ON CONFLICT (log, grp, member) DO UPDATE SET lease_until = excluded.lease_until

-- name: members
SELECT count(*) FROM fig.lease_member WHERE (log, grp) = (%(log)s, %(group)s) AND lease_until >= clock_timestamp()

-- name: renew
-- Renews what this member still holds.
UPDATE fig.lease SET lease_until = clock_timestamp() + make_interval(secs => %(lease)s)
WHERE (log, grp, member) = (%(log)s, %(group)s, %(member)s) AND lease_until >= clock_timestamp()
  AND (topic, partition) IN (SELECT * FROM unnest(%(topics)s::text[], %(partitions)s::bigint[]))
RETURNING topic, partition, position

-- name: claim
-- Takes places that nobody holds, or whose holder has not renewed.
UPDATE fig.lease AS l
SET member = %(member)s, lease_until = clock_timestamp() + make_interval(secs => %(lease)s)
FROM (
    SELECT topic, partition FROM fig.lease
    WHERE (log, grp) = (%(log)s, %(group)s) AND (member IS NULL OR lease_until < clock_timestamp())
      AND (topic, partition) IN (SELECT * FROM unnest(%(topics)s::text[], %(partitions)s::bigint[]))
    ORDER BY topic, partition LIMIT %(count)s FOR UPDATE SKIP LOCKED
) AS free
WHERE (l.log, l.grp, l.topic, l.partition) = (%(log)s, %(group)s, free.topic, free.partition)
RETURNING l.topic, l.partition, l.position

-- name: release
UPDATE fig.lease SET member = NULL, lease_until = NULL
WHERE (log, grp, topic, partition, member) = (%(log)s, %(group)s, %(topic)s, %(partition)s, %(member)s)

-- name: leave
WITH released AS (
    UPDATE fig.lease SET member = NULL, lease_until = NULL WHERE (log, grp, member) = (%(log)s, %(group)s, %(member)s)
)
DELETE FROM fig.lease_member WHERE (log, grp, member) = (%(log)s, %(group)s, %(member)s)

-- name: commit
UPDATE fig.lease SET position = greatest(position, %(position)s)
WHERE (log, grp, topic, partition, member) = (%(log)s, %(group)s, %(topic)s, %(partition)s, %(member)s)
  AND lease_until >= clock_timestamp()
RETURNING position

-- name: committed
SELECT partition, position FROM fig.lease WHERE (log, grp, topic) = (%(log)s, %(group)s, %(topic)s)

-- name: seek
-- Whoever holds the place loses it, so that it begins again at the new position.
INSERT INTO fig.lease (log, topic, partition, grp, position)
VALUES (%(log)s, %(topic)s, %(partition)s, %(group)s, %(position)s)
ON CONFLICT (log, grp, topic, partition) DO UPDATE
SET position = excluded.position, member = NULL, lease_until = NULL

-- name: forget
DELETE FROM fig.lease WHERE (log, topic) = (%(log)s, %(topic)s)

-- name: groups
SELECT DISTINCT grp FROM fig.lease WHERE (log, topic) = (%(log)s, %(topic)s) ORDER BY grp
