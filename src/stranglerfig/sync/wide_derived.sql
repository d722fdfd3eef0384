-- Positions of some logs (Kinesis) are wider than a bigint.
ALTER TABLE fig.derived ALTER COLUMN log_position TYPE numeric;
