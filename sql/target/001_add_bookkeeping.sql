-- The bookkeeping of cdc on the target: where the stream stands, what was copied, what went wrong.
-- Run by `cdc init` as the role in CDC_TARGET_DSN; safe to run again, by hand too (psql -f).

create schema if not exists cdc;

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
comment on table cdc.checkpoint is
  'Where the stream stands: moved in the transaction that holds the data. Never edit by hand.';
comment on column cdc.checkpoint.lsn is
  'End of the last applied Commit; null until the initial snapshot is complete.';
comment on column cdc.checkpoint.epoch is
  'Raised by each daemon that starts: one of an older epoch can write no more.';

create table if not exists cdc.snapshot_chunk (
  slot       text not null references cdc.checkpoint on delete cascade,
  relation   text not null,
  rows       bigint not null,
  bytes      bigint not null,
  copied_at  timestamptz not null default now(),
  primary key (slot, relation)
);
comment on table cdc.snapshot_chunk is
  'What the initial snapshot has copied, written in the transaction that copied it.';

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

-- Exactly-once and the fence against a second daemon are this one statement.
create or replace function cdc.advance(
  p_slot text, p_epoch bigint, p_from pg_lsn, p_to pg_lsn,
  p_commit_time timestamptz, p_transactions bigint, p_changes bigint
) returns void language plpgsql as $$
begin
  update cdc.checkpoint
     set lsn = p_to, commit_time = p_commit_time, updated_at = clock_timestamp(),
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
