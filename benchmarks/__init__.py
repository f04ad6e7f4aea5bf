"""Side by side: each part of marco-data beside its peers, on the same data in the same run. `python -m benchmarks`."""
