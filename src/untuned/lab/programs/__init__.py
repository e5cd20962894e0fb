"""The programs of the command `untuned`, one a file."""
