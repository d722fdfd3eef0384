-- For whom a message is, where several tenants share a service or a log.
ALTER TABLE fig.outbox ADD COLUMN tenantid text;
