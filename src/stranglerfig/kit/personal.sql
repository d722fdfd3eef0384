-- The keys under which personal values are sealed, one for each subject.
CREATE TABLE fig.personal_key (
    subject      text PRIMARY KEY,
    -- in each sealed value: who has not this key reads None, also where he has one of the same subject's name
    id           uuid NOT NULL UNIQUE DEFAULT gen_random_uuid(),
    -- 32 bytes from the server's source of randomness (three times 122 bits); null: destroyed. Made here, because what
    -- is sent as a parameter may be in the server's log.
    key          bytea DEFAULT sha256(
        uuid_send(gen_random_uuid()) || uuid_send(gen_random_uuid()) || uuid_send(gen_random_uuid())),
    made_at      timestamptz NOT NULL DEFAULT now(),
    destroyed_at timestamptz,
    CHECK ((key IS NULL) = (destroyed_at IS NOT NULL))
-- A key that was destroyed is cleared out of the table's pages as soon as autovacuum comes round.
) WITH (autovacuum_vacuum_threshold = 0, autovacuum_vacuum_scale_factor = 0);
