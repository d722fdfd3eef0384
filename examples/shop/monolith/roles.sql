-- The shop's roles; run once per server, by an administrator.
CREATE ROLE shop_owner NOLOGIN;
CREATE ROLE shop_app LOGIN;
CREATE ROLE shop_nightly LOGIN;
