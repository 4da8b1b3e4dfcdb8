"""Labelled data: readers of files, features, batches."""
