#!/bin/sh
# Run once, by the image, in a new data folder: the owner, who migrates, and the login that row-level security binds.
set -eu
psql --set ON_ERROR_STOP=1 --no-psqlrc --username "$POSTGRES_USER" --dbname postgres \
  --set owner_password="$CARILLON_OWNER_PASSWORD" --set login_password="$CARILLON_LOGIN_PASSWORD" <<'SQL'
CREATE ROLE carillon_owner LOGIN CREATEROLE PASSWORD :'owner_password';
CREATE ROLE carillon_login LOGIN PASSWORD :'login_password';
CREATE DATABASE carillon OWNER carillon_owner;
SQL
