"""The papers' workloads: those too large for two cores show the code, not the effect."""
