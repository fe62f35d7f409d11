-- The bookkeeping of cdc on the target: where the stream stands, what was copied, what went wrong.
-- Run by `cdc init` as the role in CDC_TARGET_DSN; safe to run again, by hand too (psql -f). Each
-- start runs it where another version of it was run: what is new has to be added to what is there,
-- and what an older version of cdc uses has to stay, since it may be put back.

-- Not `create schema if not exists`: that takes CREATE on the database even where the schema exists.
do $$ begin
  if to_regnamespace('cdc') is null then
    create schema cdc;
  end if;
end $$;

create table if not exists cdc.checkpoint (
  slot              text primary key,
  system_identifier text not null,
  timeline          integer not null,
  database          text not null,
  lsn               pg_lsn,
  epoch             bigint not null default 0,
  commit_time       timestamptz,
  transactions      bigint not null default 0,
  changes           bigint not null default 0,
  updated_at        timestamptz not null default now()
);
-- Missing in the first versions.
alter table cdc.checkpoint add column if not exists claimed_by text;
alter table cdc.checkpoint add column if not exists promoted_at timestamptz;
comment on table cdc.checkpoint is
  'Where the stream stands: moved in the transaction that holds the data. Never edit by hand.';
comment on column cdc.checkpoint.lsn is
  'Up to here the target holds what the source has committed; null until the slot is there.';
comment on column cdc.checkpoint.epoch is
  'Raised by each daemon that starts: one of an older epoch can write no more.';
comment on column cdc.checkpoint.claimed_by is
  'Process that raised the epoch, and to what: so it knows its own claim, answered or not.';
comment on column cdc.checkpoint.promoted_at is
  'Since when applications write to this database instead of the source: no daemon may any more.';

-- Whatever daemon comes, of whatever version: it claims or moves the checkpoint before it writes.
create or replace function cdc.refuse_promoted() returns trigger language plpgsql as $$
begin
  raise exception using errcode = 'CD005',
    message = format('slot %s: the target was promoted at %s', old.slot, old.promoted_at);
end $$;
create or replace trigger checkpoint_promoted before update on cdc.checkpoint
  for each row when (old.promoted_at is not null) execute function cdc.refuse_promoted();

create table if not exists cdc.copy (
  slot         text not null references cdc.checkpoint on delete cascade,
  table_schema text not null,
  table_name   text not null,
  shadow       text,
  foreign_keys text[] not null default '{}',
  replaces     boolean not null default false,
  live         boolean not null default false,
  relation     oid,
  rows         bigint,
  bytes        bigint,
  requested_at timestamptz not null default now(),
  begun_at     timestamptz,
  completed_at timestamptz,
  primary key (slot, table_schema, table_name)
);
comment on table cdc.copy is
  'Of each table of the source its newest copy: when it was asked for, begun and completed.';
comment on column cdc.copy.shadow is
  'Table in this schema that gets the rows until all are there; null: they go to the table itself.';
comment on column cdc.copy.replaces is 'It was asked for: rows that the table has may go.';
comment on column cdc.copy.relation is
  'The table of this server that holds the rows: it keeps that number when it is renamed.';
comment on column cdc.copy.live is
  'No change of it is missing: it goes on being written to, and is mended in place.';
comment on column cdc.copy.foreign_keys is
  'Statements that put back what the table may not have while it is filled.';

-- Of another shape in the first versions.
do $$ begin
  if exists (select from pg_catalog.pg_attribute
              where attrelid = to_regclass('cdc.snapshot_chunk') and attname = 'relation') then
    drop table cdc.snapshot_chunk;
  end if;
end $$;
create table if not exists cdc.snapshot_chunk (
  slot         text not null,
  table_schema text not null,
  table_name   text not null,
  chunk        integer not null,
  lower        text[],
  upper        text[],
  rows         bigint,
  bytes        bigint,
  copied_at    timestamptz,
  primary key (slot, table_schema, table_name, chunk),
  foreign key (slot, table_schema, table_name) references cdc.copy on delete cascade
);
comment on table cdc.snapshot_chunk is
  'Parts of the copies under way, each marked by the transaction that wrote its rows.';
comment on column cdc.snapshot_chunk.lower is
  'Key above which the part begins; null: with the first row.';
comment on column cdc.snapshot_chunk.upper is 'Last key of the part; null: that of the last row.';

create table if not exists cdc.ledger (
  id          bigint generated always as identity primary key,
  at          timestamptz not null default now(),
  slot        text not null,
  event       text not null,
  from_lsn    pg_lsn,
  to_lsn      pg_lsn,
  detail      text not null,
  resolved_at timestamptz,
  resolution  text
);
comment on table cdc.ledger is
  'Every gap, skip, resync, schema change and failover, with its resolution.';

create table if not exists cdc.verification (
  id           bigint generated always as identity primary key,
  slot         text not null,
  asked_by     integer not null,
  only_tables  text[],
  asked_at     timestamptz not null default clock_timestamp(),
  heard_at     timestamptz,
  lsn          pg_lsn,
  snapshot     text,
  joined_at    timestamptz,
  finished_at  timestamptz,
  equal        boolean,
  tables       integer,
  rows         bigint,
  differing    text[],
  problem      text
);
comment on table cdc.verification is
  'Each `cdc verify`: at which LSN both sides were compared, and what was found.';
comment on column cdc.verification.asked_by is
  'PID of the session on the source that holds the advisory lock "cdc verify" and the slot''s name.';
comment on column cdc.verification.only_tables is 'What was to be compared; null: all tables.';
comment on column cdc.verification.heard_at is 'When the daemon took notice.';
comment on column cdc.verification.snapshot is
  'Snapshot of the source at that LSN, to be joined while the stream stands there.';
comment on column cdc.verification.rows is 'Rows of the source that were compared.';
comment on column cdc.verification.problem is 'Why it came to no result.';

create table if not exists cdc.quarantine (
  id           bigint generated always as identity primary key,
  at           timestamptz not null default clock_timestamp(),
  slot         text not null,
  lsn          pg_lsn not null,
  table_schema text not null,
  table_name   text not null,
  operation    text not null check (operation in ('insert', 'update', 'delete', 'truncate')),
  shape        jsonb,
  known_by     text[],
  old          text[],
  new          text[],
  row_values   text[],
  unchanged    integer[],
  whole_table  boolean not null default false,
  sqlstate     text,
  reason       text,
  resolved_at  timestamptz,
  resolution   text
);
create index if not exists quarantine_open_idx on cdc.quarantine (slot, table_schema, table_name, id)
  where resolved_at is null;
comment on table cdc.quarantine is
  'Changes that could not be applied, and later ones of the same rows that wait behind them.'
  ' See `cdc quarantine list`; holds values of rows.';
comment on column cdc.quarantine.lsn is 'End of the transaction that the change is of.';
comment on column cdc.quarantine.known_by is
  'Columns of old and new. Rows known by others cannot be told from these, so that they wait.';
comment on column cdc.quarantine.old is
  'Key by which the row was known, all values where there is no key; null: a new row.';
comment on column cdc.quarantine.new is 'Key by which it is known afterwards; null: it is gone.';
comment on column cdc.quarantine.unchanged is
  'Positions in row_values, from 0, that the update leaves as they are on the target.';
comment on column cdc.quarantine.whole_table is 'Every later change of the table waits behind it.';
comment on column cdc.quarantine.reason is
  'What the target said, without a value; null: waits behind an earlier change.';

-- A change may only wait while there is something to wait for: whoever retries or skips an entry
-- locks the table, so that this is decided before or after, never in between.
create or replace function cdc.wait_behind(
  p_slot text, p_lsn pg_lsn, p_schema text, p_table text, p_operation text, p_shape jsonb,
  p_known_by text[], p_old text[], p_new text[], p_values text[], p_unchanged integer[]
) returns void language plpgsql as $$
declare
  v_whole boolean;
begin
  lock table cdc.quarantine in row exclusive mode;
  -- What waits for a whole table goes on standing for it when the entry before is gone: a truncate,
  -- and rows whose keys may be equal in other words.
  select bool_or(q.whole_table or p_operation = 'truncate') into v_whole
    from cdc.quarantine q
   where q.slot = p_slot and q.table_schema = p_schema and q.table_name = p_table
     and q.resolved_at is null
     and (q.whole_table or q.known_by is distinct from p_known_by
          or q.old in (p_old, p_new) or q.new in (p_old, p_new));
  if v_whole is null then
    raise exception using errcode = 'CD003',
      message = format('nothing of %s.%s is in quarantine that this change waits for', p_schema, p_table);
  end if;
  insert into cdc.quarantine (slot, lsn, table_schema, table_name, operation, shape, known_by, old,
                              new, row_values, unchanged, whole_table)
  values (p_slot, p_lsn, p_schema, p_table, p_operation, p_shape, p_known_by, p_old, p_new,
          p_values, p_unchanged, v_whole);
end $$;

-- Exactly-once and the fence against a second daemon are this one statement.
create or replace function cdc.advance(
  p_slot text, p_epoch bigint, p_from pg_lsn, p_to pg_lsn,
  p_commit_time timestamptz, p_transactions bigint, p_changes bigint
) returns void language plpgsql as $$
begin
  update cdc.checkpoint
     set lsn = p_to, commit_time = coalesce(p_commit_time, commit_time), updated_at = clock_timestamp(),
         transactions = transactions + p_transactions, changes = changes + p_changes
   where slot = p_slot and epoch = p_epoch and lsn = p_from;
  if not found then
    raise exception using errcode = 'CD001',
      message = format('checkpoint of slot %s is not at %s in epoch %s', p_slot, p_from, p_epoch);
  end if;
end $$;

-- An UPDATE that must meet its rows says how many; meeting fewer aborts the transaction.
create or replace function cdc.expect(actual bigint, expected bigint) returns void
language plpgsql as $$
begin
  if actual <> expected then
    raise exception using errcode = 'CD002', message = format('%s of %s rows found', actual, expected);
  end if;
end $$;

-- What a table is defined by, so far as it changes what is written to it: the versions of its rows
-- in the catalog. In plpgsql, which keeps its plan: before 18 a function in SQL is planned each time.
create or replace function cdc.fingerprint(p_table oid) returns text
language plpgsql stable as $$
begin
  return (select md5(coalesce(string_agg(f, '/'), '')) from (
    select string_agg(a.xmin::text, ',' order by a.attnum) as f
      from pg_catalog.pg_attribute a where a.attrelid = p_table and a.attnum > 0
    union all
    select string_agg(t.xmin::text, ',' order by t.oid)
      from pg_catalog.pg_trigger t where t.tgrelid = p_table
    union all
    select string_agg(r.xmin::text, ',' order by r.oid)
      from pg_catalog.pg_rewrite r where r.ev_class = p_table
    union all
    select string_agg(i.xmin::text, ',' order by i.inhrelid)
      from pg_catalog.pg_inherits i where i.inhparent = p_table) each);
end $$;

-- Whoever altered a table between our reading of it and our first write to it is found out here.
create or replace function cdc.require_unchanged(p_tables oid[], p_fingerprints text[])
returns void language plpgsql as $$
begin
  if exists (select from unnest(p_tables, p_fingerprints) t(oid, fingerprint)
              where cdc.fingerprint(t.oid) is distinct from t.fingerprint) then
    raise exception using errcode = 'CD004',
      message = 'a table was altered since its definition was read';
  end if;
end $$;
