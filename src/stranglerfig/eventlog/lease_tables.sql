-- Who reads which partition for a group, and how far: for logs whose server keeps no groups.
CREATE TABLE fig.lease (
    -- which log: empty for the one in this database, else its address
    log         text NOT NULL,
    topic       text NOT NULL,
    partition   bigint NOT NULL,
    grp         text NOT NULL,
    -- where the group goes on; as wide as the widest log's positions
    position    numeric NOT NULL DEFAULT 0,
    member      text,
    lease_until timestamptz,
    PRIMARY KEY (log, grp, topic, partition)
);

CREATE TABLE fig.lease_member (
    log         text NOT NULL,
    grp         text NOT NULL,
    member      text NOT NULL,
    lease_until timestamptz NOT NULL,
    PRIMARY KEY (log, grp, member)
);
