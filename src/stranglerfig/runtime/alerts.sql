-- Alerts that the webhook was told of or is to be told of. Times in seconds since 1970.
CREATE TABLE fig.alert (
    name    text NOT NULL,
    -- pairs of a label's name and value, in the alert's order
    labels  jsonb NOT NULL,
    since   float8 NOT NULL,
    begun   float8 NOT NULL,
    value   float8 NOT NULL,
    ended   float8,
    -- what the webhook accepted last: firing, resolved, or nothing yet
    told    text,
    told_at float8 NOT NULL,
    PRIMARY KEY (name, labels)
);
