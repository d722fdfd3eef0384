-- What the workers of a flow with several partitions say, each partition by itself.
CREATE TABLE fig.flow_part (
    context     text NOT NULL,
    direction   text NOT NULL,
    partition   integer NOT NULL,
    -- whose word it is: a process
    worker      text NOT NULL,
    report      jsonb NOT NULL,
    at          timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (context, direction, partition)
);
