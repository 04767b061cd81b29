"""From records to tables, plots and the report: pure functions, without torch."""
