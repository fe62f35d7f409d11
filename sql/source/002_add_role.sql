-- A role of the daemon's own on the source: reads the schema, owns nothing, writes nothing.
-- Run on Supabase as `postgres` (PostgreSQL 17; on 15 only a superuser can give REPLICATION, so use
-- `postgres` itself there), then set its password: `\password cdc` in psql.

create role cdc with login replication bypassrls;
grant usage on schema credit to cdc;
grant select on all tables in schema credit to cdc;
alter default privileges in schema credit grant select on tables to cdc;

-- Not needed to copy; without it `cdc lag` knows of bytes and of no seconds. As who may grant it:
-- grant pg_read_all_stats to cdc;
