"""A store in a file: SQLite."""
