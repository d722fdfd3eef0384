-- name: add_evidence
-- One second's part of one KPI: adds to what is there.
INSERT INTO fig.evidence AS e (context, visit, kpi, at, n, k, histogram, baseline)
SELECT %(context)s, %(visit)s, kpi, at, n, k, histogram, baseline
FROM jsonb_to_recordset(%(rows)s) AS r(kpi text, at bigint, n bigint, k bigint, histogram jsonb, baseline jsonb)
ON CONFLICT (context, visit, kpi, at) DO UPDATE SET
    n = e.n + excluded.n,
    k = e.k + excluded.k,
    histogram = fig.add_histograms(e.histogram, excluded.histogram),
    baseline = fig.add_histograms(e.baseline, excluded.baseline)

-- name: claim_offset
-- Locks the source's row, so that two readers of one log cannot both store the same lines.
INSERT INTO fig.evidence_offset AS o (source, position) VALUES (%(source)s, 0)
ON CONFLICT (source) DO UPDATE SET position = o.position
RETURNING position

-- name: move_offset
UPDATE fig.evidence_offset SET position = %(position)s WHERE source = %(source)s

-- name: counts
-- Samples and failures in blocks of `width` seconds, in order of time, without histograms.
SELECT kpi, at / %(width)s * %(width)s AS block, sum(n)::bigint, sum(k)::bigint
FROM fig.evidence
WHERE context = %(context)s AND visit = %(visit)s AND at >= %(since)s
GROUP BY kpi, block
ORDER BY kpi, block

-- name: histograms
-- One KPI's seconds with their histograms, in order of time.
SELECT at, n, k, histogram, baseline
FROM fig.evidence
WHERE context = %(context)s AND visit = %(visit)s AND kpi = %(kpi)s AND at >= %(since)s
ORDER BY at

-- name: span
-- First and last second that has evidence.
SELECT min(at), max(at) FROM fig.evidence WHERE context = %(context)s AND visit = %(visit)s AND at >= %(since)s

-- name: facts
-- The last fact or value of each KPI.
SELECT DISTINCT ON (kpi) kpi, fact, value, detail
FROM fig.fact
WHERE context = %(context)s AND visit = %(visit)s
ORDER BY kpi, at DESC

-- name: note_fact
INSERT INTO fig.fact (context, visit, kpi, at, fact, value, detail)
VALUES (%(context)s, %(visit)s, %(kpi)s, clock_timestamp(), %(fact)s, %(value)s, %(detail)s)

-- name: looks
SELECT kpi, looks FROM fig.look WHERE (context, visit, scope) = (%(context)s, %(visit)s, %(scope)s)

-- name: keep_look
INSERT INTO fig.look (context, visit, scope, kpi, looks)
VALUES (%(context)s, %(visit)s, %(scope)s, %(kpi)s, %(looks)s)
ON CONFLICT (context, visit, scope, kpi) DO UPDATE SET looks = excluded.looks

-- name: keep_verdict
INSERT INTO fig.verdict (context, visit, scope, at, gate)
VALUES (%(context)s, %(visit)s, %(scope)s, clock_timestamp(), %(gate)s)

-- name: last_verdict
SELECT gate FROM fig.verdict WHERE (context, visit, scope) = (%(context)s, %(visit)s, %(scope)s) ORDER BY id DESC LIMIT 1

-- name: verdicts
-- The history of a visit's verdicts, newest first.
SELECT at, scope, gate FROM fig.verdict WHERE context = %(context)s AND visit = %(visit)s ORDER BY id DESC LIMIT %(most)s
