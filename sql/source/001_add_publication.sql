-- The publication of the whole schema, tables to come included.
-- Run on Supabase as `postgres` (on a plain server as a superuser) before `cdc init`, if `cdc init`
-- is to connect as a role that may not create one. Otherwise `cdc init` does it by itself.
--
-- First look at `cdc check`: a table without a key that is published can no longer be updated.

create publication cdc_credit for tables in schema credit;
