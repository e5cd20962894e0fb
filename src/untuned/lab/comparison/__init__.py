"""Optimizers compared on workloads: trials, the plan, executors, what is measured."""
