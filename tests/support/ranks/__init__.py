"""What the tests of distributed training run on every rank, and the server that forks the ranks."""
