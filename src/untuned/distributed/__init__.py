"""Parameters sharded over ranks."""
