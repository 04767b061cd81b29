"""The shipped metrics, plugins like a user's own file, and the public functions behind them.

In: samples (or a trained model) and data. Out: `Score` with its controls.
Not its business: seeds, tables and verdicts over several seeds.
"""
