"""Datasets with fixed splits: toy densities, images, simulators."""
