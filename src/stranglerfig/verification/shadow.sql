-- name: add_counts
-- A second may be written twice: late verdicts belong to the second of their request.
INSERT INTO fig.shadow (context, route, at, compared, equal, mismatched, lagged, noise, dropped, errors)
VALUES (%(context)s, %(route)s, to_timestamp(%(at)s), %(compared)s, %(equal)s, %(mismatched)s, %(lagged)s, %(noise)s,
        %(dropped)s, %(errors)s)
ON CONFLICT (context, route, at) DO UPDATE SET
    compared = shadow.compared + excluded.compared, equal = shadow.equal + excluded.equal,
    mismatched = shadow.mismatched + excluded.mismatched, lagged = shadow.lagged + excluded.lagged,
    noise = shadow.noise + excluded.noise, dropped = shadow.dropped + excluded.dropped,
    errors = shadow.errors + excluded.errors

-- name: add_sample
INSERT INTO fig.shadow_sample (context, route, at, verdict, request_id, path, differences, monolith, service)
VALUES (%(context)s, %(route)s, to_timestamp(%(at)s), %(verdict)s, %(request_id)s, %(path)s, %(differences)s,
        %(monolith)s, %(service)s)

-- name: cap_samples
DELETE FROM fig.shadow_sample WHERE context = %(context)s AND id <= (
    SELECT id FROM fig.shadow_sample WHERE context = %(context)s ORDER BY id DESC OFFSET %(keep)s LIMIT 1)

-- name: add_latencies
INSERT INTO fig.shadow_latency (context, at, monolith_us, service_us)
VALUES (%(context)s, to_timestamp(%(at)s), %(monolith)s, %(service)s)
ON CONFLICT (context, at) DO UPDATE SET
    monolith_us = shadow_latency.monolith_us || excluded.monolith_us,
    service_us = shadow_latency.service_us || excluded.service_us

-- name: counts
-- The sums of a context since a moment.
SELECT coalesce(sum(compared), 0)::bigint, coalesce(sum(equal), 0)::bigint, coalesce(sum(mismatched), 0)::bigint,
       coalesce(sum(lagged), 0)::bigint, coalesce(sum(noise), 0)::bigint, coalesce(sum(dropped), 0)::bigint,
       coalesce(sum(errors), 0)::bigint
FROM fig.shadow WHERE context = %(context)s AND at >= %(since)s

-- name: latencies
-- Pairs of latencies (monolith, service) of a context since a moment.
SELECT pair.monolith, pair.service
FROM fig.shadow_latency l, unnest(l.monolith_us, l.service_us) AS pair (monolith, service)
WHERE l.context = %(context)s AND l.at >= %(since)s

-- name: samples
-- The newest samples of a context.
SELECT route, at, verdict, request_id, path, differences, monolith, service
FROM fig.shadow_sample WHERE context = %(context)s ORDER BY id DESC LIMIT %(most)s

-- name: settle
INSERT INTO fig.shadow_settled (context, until) VALUES (%(context)s, to_timestamp(%(until)s))
ON CONFLICT (context) DO UPDATE SET until = greatest(shadow_settled.until, excluded.until)

-- name: forget
DELETE FROM fig.shadow WHERE at < now() - interval '90 days'
