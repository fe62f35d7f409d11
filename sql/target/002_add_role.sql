-- A role of the daemon's own on the target: owns the tables that it writes and its bookkeeping, and
-- may do nothing else. Owner, for it disables triggers, makes foreign keys deferrable, takes them
-- off while a table is filled, and restarts sequences.
--
-- Run in the target's database (psql --file) by its owner (on Neon the role of the project, such as
-- neondb_owner), before or after the tables are there; safe to run again. Then set its password
-- (`\password cdc` in psql), and name it in CDC_TARGET_DSN.

select 'create role cdc login' where to_regrole('cdc') is null \gexec

-- So that whoever runs this can hand over what is theirs, and go on to migrate the tables.
grant cdc to current_user;

-- For the schemas `credit` and `cdc`. When `cdc init` is through, it may go:
--   revoke create on database neondb from cdc;
grant create, temporary on database :"DBNAME" to cdc;

-- Tables of the schema that are there already: handed over with it.
select format('alter schema %I owner to cdc', nspname) from pg_namespace where nspname = 'credit' \gexec
select format('alter table %s owner to cdc', oid::regclass) from pg_class
 where relnamespace = to_regnamespace('credit') and relkind in ('r', 'p') \gexec
