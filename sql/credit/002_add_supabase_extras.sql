-- What Supabase adds to the credit schema: row level security through auth.uid(), a foreign key
-- to auth.users, grants to the API's roles.
--
-- When:  after 001_add_credit_schema.sql, on the source. SUPABASE ONLY: not for the Neon target,
--        which has no auth schema and no API roles; cdc needs none of this there.
-- Who:   the owner of the credit tables (on Supabase: postgres). cdc's own role reads past the
--        policies with BYPASSRLS.
-- How:   psql -v ON_ERROR_STOP=1 -f 002_add_supabase_extras.sql


-- Part 1: a stand-in for Supabase. On plain PostgreSQL (demo, tests) it makes what part 2 refers to
-- and needs CREATEROLE and CREATE on the database; run it as an administrator there, and part 2 as
-- the owner. On Supabase everything exists and this does nothing.

do $$
begin
    if not exists (select from pg_roles where rolname = 'anon') then
        create role anon nologin noinherit;
    end if;
    if not exists (select from pg_roles where rolname = 'authenticated') then
        create role authenticated nologin noinherit;
    end if;
    if to_regnamespace('auth') is null then
        create schema auth;
        create table auth.users (id uuid primary key, email text);
        -- The users that the demo's rows belong to.
        insert into auth.users (id, email)
        select md5('user:' || n)::uuid, 'user' || n || '@example.com'
        from generate_series(1, 1000) as n;
        create function auth.uid() returns uuid language sql stable
            as 'select nullif(current_setting(''request.jwt.claim.sub'', true), '''')::uuid';
        grant usage on schema auth to public;
        grant select, references on auth.users to public;
    end if;
end
$$;


-- Part 2: the extras, as one transaction.

begin;

alter table credit.applications
    add constraint applications_user_id_fkey
    foreign key (user_id) references auth.users (id) on delete restrict;

alter table credit.providers enable row level security;
alter table credit.provider_rates enable row level security;
alter table credit.businesses enable row level security;
alter table credit.applications enable row level security;
alter table credit.offers enable row level security;
alter table credit.credit_accounts enable row level security;
alter table credit.transactions enable row level security;
alter table credit.payment_schedules enable row level security;
alter table credit.documents enable row level security;
alter table credit.audit_events enable row level security;

-- (select auth.uid()) is evaluated once per statement, a bare auth.uid() once per row.
create policy "anyone sees active providers" on credit.providers
    for select to anon, authenticated
    using (is_active);

create policy "users see their applications" on credit.applications
    for select to authenticated
    using (user_id = (select auth.uid()));
create policy "users file applications" on credit.applications
    for insert to authenticated
    with check (user_id = (select auth.uid()) and status in ('draft', 'submitted'));
create policy "users change their drafts" on credit.applications
    for update to authenticated
    using (user_id = (select auth.uid()) and status = 'draft')
    with check (user_id = (select auth.uid()) and status in ('draft', 'submitted', 'withdrawn'));

-- The subqueries run under the policies of the tables they read.
create policy "users see the businesses they apply for" on credit.businesses
    for select to authenticated
    using (exists (select from credit.applications a where a.business_id = businesses.id));
create policy "users see their offers" on credit.offers
    for select to authenticated
    using (exists (select from credit.applications a where a.id = offers.application_id));
create policy "users see their documents" on credit.documents
    for select to authenticated
    using (exists (select from credit.applications a where a.id = documents.application_id));
create policy "users add documents" on credit.documents
    for insert to authenticated
    with check (exists (select from credit.applications a where a.id = documents.application_id));
create policy "users see their accounts" on credit.credit_accounts
    for select to authenticated
    using (exists (select from credit.offers o where o.id = credit_accounts.offer_id));
create policy "users see their transactions" on credit.transactions
    for select to authenticated
    using (exists (select from credit.credit_accounts c where c.id = transactions.account_id));
create policy "users see their payment schedules" on credit.payment_schedules
    for select to authenticated
    using (exists (select from credit.credit_accounts c where c.id = payment_schedules.account_id));
-- provider_rates and audit_events have no policy: no user of the API sees them.

grant usage on schema credit to anon, authenticated;
grant select on credit.providers to anon, authenticated;
grant select on
    credit.businesses, credit.offers, credit.credit_accounts, credit.transactions,
    credit.payment_schedules
    to authenticated;
grant select, insert, update on credit.applications to authenticated;
grant select, insert on credit.documents to authenticated;

commit;
