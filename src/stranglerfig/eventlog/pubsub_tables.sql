-- The order of events on Google Cloud Pub/Sub, which has none: which batch of messages has which positions.
CREATE TABLE fig.pubsub_topic (
    id         bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    -- which log: the project, and the endpoint where it is not Google's
    log        text NOT NULL,
    name       text NOT NULL,
    partitions int NOT NULL,
    retention  double precision NOT NULL,
    UNIQUE (log, name)
);

-- The sequencer of a partition: `next` is given out, below `first` all has expired.
CREATE TABLE fig.pubsub_partition (
    topic_id  bigint NOT NULL REFERENCES fig.pubsub_topic ON DELETE CASCADE,
    partition int NOT NULL,
    first     bigint NOT NULL DEFAULT 0,
    next      bigint NOT NULL DEFAULT 0,
    PRIMARY KEY (topic_id, partition)
);

-- Messages of one append in one partition; they carry the batch and their place in it.
CREATE TABLE fig.pubsub_batch (
    topic_id     bigint NOT NULL,
    partition    int NOT NULL,
    first        bigint NOT NULL,
    count        int NOT NULL,
    batch        uuid NOT NULL,
    -- not later than Pub/Sub's publish time of any of them
    published_at timestamptz NOT NULL,
    -- grows along the partition
    appended_at  timestamptz NOT NULL,
    PRIMARY KEY (topic_id, partition, first)
);
CREATE INDEX pubsub_batch_by_time ON fig.pubsub_batch (topic_id, partition, appended_at);
