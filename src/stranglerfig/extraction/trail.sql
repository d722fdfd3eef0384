-- name: trail
-- Who did what and when, newest first, from where a page ended: microseconds, kind and id order it in full.
SELECT * FROM (
    SELECT (extract(epoch FROM asked_at) * 1000000)::bigint AS micros, 'command' AS kind, id, asked_at AS at, context,
           verb AS what, asked_by AS by,
           coalesce(result ->> 'message',
                    (SELECT text FROM fig.command_event e WHERE e.command = c.id ORDER BY e.id DESC LIMIT 1), '') AS text,
           state AS outcome, args AS data
    FROM fig.command c
    UNION ALL
    SELECT (extract(epoch FROM at) * 1000000)::bigint, 'milestone', id, at, context, kind,
           coalesce(data ->> 'by', CASE WHEN (data ->> 'automatic')::boolean THEN 'fig' ELSE '' END),
           coalesce(data ->> 'cause', data ->> 'reason', data ->> 'what', data ->> 'text', ''), '',
           data - 'holds_ms' - 'difference_list' - 'gate'
    FROM fig.milestone
    UNION ALL
    SELECT (extract(epoch FROM entered_at) * 1000000)::bigint, 'visit', v.id, entered_at, context,
           stage,
           coalesce(lag(left_by) OVER (PARTITION BY context ORDER BY v.id), ''), '',
           CASE WHEN left_at IS NOT NULL THEN coalesce(gate ->> 'verdict', '') ELSE '' END,
           jsonb_build_object('stage', stage, 'step', step)
    FROM fig.visit v
) AS found
WHERE (%(context)s::text IS NULL OR context = %(context)s)
  AND (%(micros)s::bigint IS NULL OR (micros, kind, id) < (%(micros)s, %(kind)s, %(id)s))
ORDER BY micros DESC, kind DESC, id DESC
LIMIT %(limit)s
