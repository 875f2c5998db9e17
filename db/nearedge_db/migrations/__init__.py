"""Alembic migrations, shipped with the package and run by :mod:`nearedge_db.migrate`."""
