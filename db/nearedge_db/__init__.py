"""The database of NearEdge: schema, migrations, task ledger, store, views and read-only queries."""
