-- The service's roles; run once per server, by an administrator.
CREATE ROLE inventory_owner NOLOGIN;
CREATE ROLE inventory_app LOGIN;
