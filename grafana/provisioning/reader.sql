-- A role for Grafana that can read what the dashboard Invoice shows, and nothing else of the ledger. As the ledger's owner, once:
--   psql "$TALLYGATE_DATABASE_URL" -f reader.sql
--   psql "$TALLYGATE_DATABASE_URL" -c '\password tallygate_reader'
DO $$
BEGIN
  IF NOT EXISTS (SELECT FROM pg_roles WHERE rolname = 'tallygate_reader') THEN
    CREATE ROLE tallygate_reader LOGIN;
  END IF;
END
$$;
ALTER ROLE tallygate_reader SET default_transaction_read_only = on;
ALTER ROLE tallygate_reader SET statement_timeout = '60s';  -- a dashboard must not hold the ledger up
GRANT USAGE ON SCHEMA public TO tallygate_reader;
GRANT SELECT ON entries, series, rollups TO tallygate_reader;
GRANT SELECT (id, name, time_zone, billing_day) ON organizations TO tallygate_reader;
