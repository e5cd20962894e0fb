"""What tests share: networks, recorded trajectories, the pages, and what other processes run."""
