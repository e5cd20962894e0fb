"""Forward passes: seen through hooks, and run once more."""
