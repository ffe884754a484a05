#!/bin/sh
# Run once, by the image, in a new data folder: the owner, who migrates, and the login that row-level security binds.
# Their passwords go by environment: `ps` shows none.
set -eu
psql --set ON_ERROR_STOP=1 --no-psqlrc --username "$POSTGRES_USER" --dbname postgres <<'SQL'
\getenv owner_password CARILLON_OWNER_PASSWORD
\getenv login_password CARILLON_LOGIN_PASSWORD
CREATE ROLE carillon_owner LOGIN CREATEROLE PASSWORD :'owner_password';
CREATE ROLE carillon_login LOGIN PASSWORD :'login_password';
CREATE DATABASE carillon OWNER carillon_owner;
SQL
