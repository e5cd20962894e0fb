"""Parameters sharded over processes."""
