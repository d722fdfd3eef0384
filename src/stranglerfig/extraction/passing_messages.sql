-- The router's counts of what it gave the monolith, as far as they are in fig.passed; null where there is no router.
ALTER TABLE fig.passing ADD COLUMN messages jsonb;
