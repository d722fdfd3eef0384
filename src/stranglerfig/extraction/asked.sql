-- From where a command was asked, and its signature where access is configured; each signature is taken once.
ALTER TABLE fig.command ADD COLUMN asked_from text NOT NULL DEFAULT '', ADD COLUMN signature jsonb;
CREATE UNIQUE INDEX ON fig.command ((signature ->> 'mac')) WHERE signature IS NOT NULL;
