-- A topic may have several partitions, each with a worker of its own that has its own position.
ALTER TABLE fig.applied ADD COLUMN partition integer NOT NULL DEFAULT 0;
ALTER TABLE fig.applied DROP CONSTRAINT applied_pkey, ADD PRIMARY KEY (context, direction, partition);

ALTER TABLE fig.parked ADD COLUMN partition integer NOT NULL DEFAULT 0;
ALTER TABLE fig.parked DROP CONSTRAINT parked_context_direction_lsn_ordinal_row_number_key,
    ADD UNIQUE (context, direction, partition, lsn, ordinal, row_number);
