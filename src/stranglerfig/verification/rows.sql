-- Statements around the comparison of rows; those that compare are made from the mapping (rows.py).

-- name: marker
SELECT nonce, lsn FROM fig.marker WHERE (context, direction) = (%s, %s) AND nonce = ANY (%s) LIMIT 1

-- name: unfinished
-- A comparison that was interrupted less than an hour ago.
SELECT id, progress FROM fig.verification
WHERE context = %s AND direction = %s AND finished_at IS NULL AND progress IS NOT NULL
  AND started_at > now() - interval '1 hour'
ORDER BY started_at DESC LIMIT 1

-- name: begin
INSERT INTO fig.verification (id, context, direction) VALUES (%s, %s, %s)

-- name: progress
UPDATE fig.verification SET rows_compared = %s, progress = %s WHERE id = %s

-- name: finish
UPDATE fig.verification
SET finished_at = now(), marker = %s, rows_compared = %s, differences = %s, seconds = %s, details = %s, progress = NULL
WHERE id = %s

-- name: latest
SELECT id, started_at, finished_at, details FROM fig.verification
WHERE context = %s AND finished_at IS NOT NULL ORDER BY finished_at DESC LIMIT %s
