"""Everything that measures time. Run as `python -m benchmarks.NAME` from the repository root."""
