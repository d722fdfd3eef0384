-- The service's roles; run once per server, by an administrator.
CREATE ROLE catalogue_owner NOLOGIN;
CREATE ROLE catalogue_app LOGIN;
