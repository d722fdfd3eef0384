-- Each partition of the topic of changes is derived from by itself.
ALTER TABLE fig.derived ADD COLUMN partition integer NOT NULL DEFAULT 0;
ALTER TABLE fig.derived DROP CONSTRAINT derived_pkey, ADD PRIMARY KEY (context, partition);
