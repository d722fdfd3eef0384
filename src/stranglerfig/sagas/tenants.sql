-- For whom a saga is, where several tenants share a service.
ALTER TABLE fig.saga ADD COLUMN tenant text;
