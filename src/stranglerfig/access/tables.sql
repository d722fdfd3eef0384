-- Tokens and sessions: only the SHA-256 of their secrets. A session is a credential like a token, that ends sooner.
CREATE TABLE fig.credential (
    id          text PRIMARY KEY,
    kind        text NOT NULL CHECK (kind IN ('token', 'session')),
    name        text NOT NULL,
    person      text NOT NULL,
    role        text NOT NULL CHECK (role IN ('viewer', 'operator', 'approver')),
    how         text NOT NULL,
    -- the token that a session was begun with: it ends with it
    parent      text,
    hash        bytea NOT NULL CHECK (length(hash) = 32),
    created_at  timestamptz NOT NULL DEFAULT clock_timestamp(),
    created_by  text NOT NULL,
    expires_at  timestamptz,
    -- a session ends when it is not used for so long
    idle        interval,
    seen_at     timestamptz NOT NULL DEFAULT clock_timestamp(),
    ended_at    timestamptz,
    ended_by    text
);
CREATE UNIQUE INDEX ON fig.credential (lower(name)) WHERE kind = 'token' AND ended_at IS NULL;

-- Who agreed to which step: a plan is one step of one visit with one configuration, so an approval serves once.
CREATE TABLE fig.approval (
    id          bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    context     text NOT NULL,
    visit       bigint NOT NULL,
    stage       text NOT NULL,
    plan        text NOT NULL,
    name        text NOT NULL,
    person      text NOT NULL,
    how         text NOT NULL,
    origin      text NOT NULL,
    credential  text NOT NULL,
    at          timestamptz NOT NULL DEFAULT clock_timestamp(),
    expires_at  timestamptz NOT NULL,
    withdrawn_at timestamptz
);
CREATE INDEX ON fig.approval (context, plan);

-- The audit trail: only ever added to, each row bound to the one before it by its digest.
CREATE TABLE fig.audit (
    id          bigint PRIMARY KEY,
    at          timestamptz NOT NULL,
    context     text NOT NULL DEFAULT '',
    action      text NOT NULL,
    outcome     text NOT NULL CHECK (outcome IN ('done', 'refused', 'failed')),
    code        text NOT NULL DEFAULT '',
    name        text NOT NULL,
    person      text NOT NULL,
    role        text NOT NULL,
    how         text NOT NULL,
    origin      text NOT NULL,
    details     jsonb NOT NULL DEFAULT '{}',
    digest      bytea NOT NULL
);
CREATE INDEX ON fig.audit (context, id);

CREATE FUNCTION fig.audit_digest(previous bytea, line fig.audit) RETURNS bytea
LANGUAGE sql IMMUTABLE SET search_path = pg_catalog, pg_temp
AS $$
    SELECT sha256(previous || convert_to(jsonb_build_array(
        line.id, extract(epoch FROM line.at)::text, line.context, line.action, line.outcome, line.code, line.name,
        line.person, line.role, line.how, line.origin, line.details)::text, 'UTF8'))
$$;

-- One writer at a time, so that numbers have no gaps and digests one order. It runs as the owner: who may insert need
-- not be allowed to read.
CREATE FUNCTION fig.audit_add() RETURNS trigger
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    last record;
BEGIN
    PERFORM pg_advisory_xact_lock(hashtextextended('fig.audit', 0));
    SELECT id, digest INTO last FROM fig.audit ORDER BY id DESC LIMIT 1;
    NEW.id := coalesce(last.id, 0) + 1;
    NEW.at := clock_timestamp();
    NEW.digest := fig.audit_digest(coalesce(last.digest, '\x'), NEW);
    RETURN NEW;
END
$$;
CREATE TRIGGER added BEFORE INSERT ON fig.audit FOR EACH ROW EXECUTE FUNCTION fig.audit_add();

CREATE FUNCTION fig.audit_kept() RETURNS trigger
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
    RAISE EXCEPTION 'fig.audit is only ever added to' USING ERRCODE = 'insufficient_privilege';
END
$$;
CREATE TRIGGER kept BEFORE UPDATE OR DELETE ON fig.audit FOR EACH ROW EXECUTE FUNCTION fig.audit_kept();
CREATE TRIGGER kept_whole BEFORE TRUNCATE ON fig.audit FOR EACH STATEMENT EXECUTE FUNCTION fig.audit_kept();
