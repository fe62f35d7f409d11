-- The credit schema: applications for business credit, the offers that providers make for
-- them, and the accounts that come of it.
--
-- When:  once on the source, before the publication is made, and once on the target, before
--        the initial snapshot. The same file, unchanged, on both.
-- Who:   the role that is to own the tables: a plain role with CREATE on the database, no
--        superuser. PostgreSQL 15 to 18, no extension.
-- How:   psql -v ON_ERROR_STOP=1 -f 001_add_credit_schema.sql, as one transaction: all or nothing.
--        Not repeatable: a second run stops at the schema that is there.

begin;

create schema credit;
comment on schema credit is 'Credit as a service: what cdc copies from source to target';


-- Types

create type credit.application_status as enum
    ('draft', 'submitted', 'in_review', 'approved', 'declined', 'withdrawn');
create type credit.offer_status as enum ('open', 'accepted', 'declined', 'expired');
create type credit.account_status as enum ('active', 'frozen', 'closed');
create type credit.transaction_kind as enum
    ('drawdown', 'repayment', 'interest', 'fee', 'correction');
create type credit.installment_status as enum ('due', 'paid', 'late', 'waived');
create type credit.document_kind as enum
    ('bank_statement', 'annual_report', 'identity', 'contract', 'other');

-- numeric holds 'NaN', which sorts above every number and would pass ">= 0" alone.
create domain credit.money_amount as numeric(20, 4)
    constraint money_amount_is_not_negative check (value >= 0 and value <> 'NaN');
create domain credit.currency_code as text
    constraint currency_code_is_three_letters check (value ~ '^[A-Z]{3}$');


-- Tables

create table credit.providers (
    code text primary key,
    external_id uuid not null default gen_random_uuid(),
    name text not null,
    rank bigint not null,
    base_rate numeric not null,
    regions text[] not null default '{}',
    limits numeric[],
    settings jsonb not null default '{}',
    api_timeout interval not null default '30 seconds',
    webhook_source inet,
    is_active boolean not null default true,
    created_at timestamptz not null default now(),
    updated_at timestamptz not null default now(),
    constraint providers_external_id_key unique (external_id),
    -- Deferrable, so that one statement can exchange the ranks of two providers.
    constraint providers_rank_key unique (rank) deferrable initially immediate
);
comment on table credit.providers is
    'Lenders. The key is a natural one and changes: a provider that renames itself takes its '
    'rates and offers along (on update cascade)';

create table credit.provider_rates (
    provider_code text not null
        references credit.providers (code) on update cascade on delete cascade,
    effective_on date not null,
    rate numeric not null,
    amounts numrange,
    curve double precision[],
    raw json,
    loaded_at timestamptz not null default now()
);
-- Loaded by an import that never declared a primary key. This index is its replica identity: unique,
-- immediate, not partial, over columns that are not null.
create unique index provider_rates_identity
    on credit.provider_rates (provider_code, effective_on);
alter table credit.provider_rates replica identity using index provider_rates_identity;
comment on table credit.provider_rates is
    'Rate sheets as the providers sent them. No primary key: replica identity is an index';

create table credit.businesses (
    id uuid primary key default gen_random_uuid(),
    parent_id uuid references credit.businesses (id) on delete set null,
    registration_number text not null,
    tax_number text,
    legal_name text not null,
    trading_names text[] not null default '{}',
    country character(2) not null,
    founded_on date,
    employees integer check (employees >= 0),
    annual_revenue credit.money_amount,
    address jsonb not null default '{}',
    created_at timestamptz not null default now(),
    updated_at timestamptz not null default now(),
    constraint businesses_registration_number_key unique (registration_number),
    constraint businesses_tax_number_key unique (tax_number)
);
comment on table credit.businesses is 'Borrowers, in groups: a business may have a parent';

create table credit.applications (
    id uuid primary key default gen_random_uuid(),
    application_no bigint generated always as identity,
    user_id uuid not null,
    business_id uuid not null references credit.businesses (id) on delete restrict,
    amount_requested credit.money_amount not null check (amount_requested > 0),
    currency credit.currency_code not null default 'EUR',
    purpose text not null,
    loan_term_months smallint not null check (loan_term_months between 1 and 480),
    status credit.application_status not null default 'draft',
    risk_score double precision,
    required_documents credit.document_kind[] not null default '{}',
    tags text[] not null default '{}',
    client_address inet,
    decide_within interval,
    valid_until date,
    submitted_at timestamptz,
    decided_at timestamptz,
    metadata jsonb,
    created_at timestamptz not null default now(),
    updated_at timestamptz not null default now(),
    constraint applications_application_no_key unique (application_no)
);
comment on table credit.applications is 'What a user asks for on behalf of a business';

create table credit.offers (
    id uuid primary key default gen_random_uuid(),
    application_id uuid not null references credit.applications (id) on delete cascade,
    provider_code text not null
        references credit.providers (code) on update cascade on delete restrict,
    status credit.offer_status not null default 'open',
    amount credit.money_amount not null,
    interest_rate numeric not null,
    interest_score double precision,
    total_cost numeric generated always as (amount * (1 + interest_rate)) stored,
    fees numeric[] not null default '{}',
    terms jsonb not null default '{}',
    expires_on date,
    cooling_off interval,
    created_at timestamptz not null default now(),
    updated_at timestamptz not null default now(),
    constraint offers_application_id_provider_code_key unique (application_id, provider_code)
);
comment on table credit.offers is 'One offer per application and provider, one of them accepted';

create table credit.credit_accounts (
    id uuid primary key default gen_random_uuid(),
    account_no text not null,
    offer_id uuid not null references credit.offers (id) on delete restrict,
    business_id uuid not null references credit.businesses (id) on delete restrict,
    status credit.account_status not null default 'active',
    currency credit.currency_code not null,
    credit_limit credit.money_amount not null,
    balance numeric(20, 4) not null default 0,
    available numeric generated always as (credit_limit - balance) stored,
    opened_on date not null,
    closed_on date,
    created_at timestamptz not null default now(),
    updated_at timestamptz not null default now(),
    constraint credit_accounts_account_no_key unique (account_no),
    constraint credit_accounts_offer_id_key unique (offer_id)
);
comment on table credit.credit_accounts is 'An accepted offer that was paid out';

create table credit.transactions (
    id bigint generated always as identity primary key,
    account_id uuid not null references credit.credit_accounts (id) on delete restrict,
    external_id text,
    kind credit.transaction_kind not null,
    amount numeric(20, 4) not null,
    exchange_rate numeric,
    currency credit.currency_code not null,
    booked_at timestamptz not null default now(),
    value_on date not null,
    description text,
    metadata jsonb,
    constraint transactions_external_id_key unique (external_id)
);
comment on table credit.transactions is 'Bookings on an account; mostly inserts';

create table credit.payment_schedules (
    account_id uuid not null references credit.credit_accounts (id) on delete cascade,
    installment_no integer not null check (installment_no > 0),
    reference text not null,
    status credit.installment_status not null default 'due',
    due_on date not null,
    grace interval not null default '3 days',
    principal credit.money_amount not null,
    interest numeric not null,
    paid_at timestamptz,
    note text,
    updated_at timestamptz not null default now(),
    primary key (account_id, installment_no),
    constraint payment_schedules_reference_key unique (reference)
);
-- The whole old row goes to the WAL, the primary key stays. No generated column here: from
-- PostgreSQL 18 on, UPDATE and DELETE fail on a published table where one is part of the identity.
alter table credit.payment_schedules replica identity full;
comment on table credit.payment_schedules is
    'Installments by number; numbers move when a plan is changed. Replica identity is the whole row';

create table credit.documents (
    id uuid primary key default gen_random_uuid(),
    application_id uuid not null references credit.applications (id) on delete cascade,
    kind credit.document_kind not null,
    file_name text not null,
    pages integer not null default 1,
    body text,
    body_bytes integer generated always as (octet_length(body)) stored,
    extracted jsonb,
    thumbnail bytea,
    sha256 bytea not null,
    note text,
    received_at timestamptz not null default now(),
    updated_at timestamptz not null default now()
);
-- body is 2 kB to some 100 kB, never compressed: always out of line once it is past 2 kB. extracted
-- is compressed first and goes out of line when that does not help. Both are written once and
-- rarely change, so most updates leave them as unchanged TOAST values, absent from the WAL.
alter table credit.documents
    alter column body set storage external,
    alter column extracted set storage extended;
comment on table credit.documents is 'Uploaded papers, with their text and what was read from them';

create table credit.audit_events (
    id bigint generated by default as identity primary key,
    occurred_at timestamptz not null default now(),
    actor text,
    actor_address inet,
    entity text not null,
    entity_key text not null,
    action text not null,
    payload jsonb,
    signature bytea
);
comment on table credit.audit_events is 'Who did what; written by the application and by a trigger';


-- Indexes: every foreign key, and what the application looks for

create index offers_provider_code_idx on credit.offers (provider_code);
create unique index offers_one_accepted_idx
    on credit.offers (application_id) where status = 'accepted';
create index businesses_parent_id_idx on credit.businesses (parent_id);
create index businesses_legal_name_idx on credit.businesses (lower(legal_name));
create index applications_user_id_idx on credit.applications (user_id);
create index applications_business_id_idx on credit.applications (business_id);
create index applications_open_idx
    on credit.applications (submitted_at) where status in ('submitted', 'in_review');
create index applications_tags_idx on credit.applications using gin (tags);
create index credit_accounts_business_id_idx on credit.credit_accounts (business_id);
create index transactions_account_id_booked_at_idx
    on credit.transactions (account_id, booked_at);
create index payment_schedules_due_idx
    on credit.payment_schedules (due_on) where status = 'due';
create index documents_application_id_idx on credit.documents (application_id);
create index audit_events_entity_idx on credit.audit_events (entity, entity_key);


-- Triggers. On the target they must not fire: they would write what the source has written.

create function credit.set_updated_at() returns trigger
    language plpgsql set search_path = ''
as $$
begin
    new.updated_at = now();
    return new;
end
$$;

create trigger providers_set_updated_at before update on credit.providers
    for each row execute function credit.set_updated_at();
create trigger businesses_set_updated_at before update on credit.businesses
    for each row execute function credit.set_updated_at();
create trigger applications_set_updated_at before update on credit.applications
    for each row execute function credit.set_updated_at();
create trigger offers_set_updated_at before update on credit.offers
    for each row execute function credit.set_updated_at();
create trigger credit_accounts_set_updated_at before update on credit.credit_accounts
    for each row execute function credit.set_updated_at();
create trigger payment_schedules_set_updated_at before update on credit.payment_schedules
    for each row execute function credit.set_updated_at();
create trigger documents_set_updated_at before update on credit.documents
    for each row execute function credit.set_updated_at();

-- Security definer: a user who may change an application may not write the audit trail.
create function credit.audit_application_status() returns trigger
    language plpgsql security definer set search_path = ''
as $$
begin
    insert into credit.audit_events (actor, entity, entity_key, action, payload)
    values (
        current_user, 'application', new.id::text, 'status',
        jsonb_build_object('before', old.status, 'after', new.status)
    );
    return null;
end
$$;

create trigger applications_audit_status after update of status on credit.applications
    for each row when (old.status is distinct from new.status)
    execute function credit.audit_application_status();

commit;
