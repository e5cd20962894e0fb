"""Experiments with the library, which never imports this package. Needs the extra `lab`."""
