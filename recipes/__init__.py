"""Recipe families: data, not code. `marco_data.cli` finds them here by name."""
