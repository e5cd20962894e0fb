"""Time and memory of optimizer steps. Needs torch alone, but for `scaling.draw`."""
