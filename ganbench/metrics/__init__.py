"""Metrics: plain functions on tensors, and the marked classes by which suites name them."""
