"""From a suite to records, in the order in which data flows: suite, plan, train, score, store, execute."""
