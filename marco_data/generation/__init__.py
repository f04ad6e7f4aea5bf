"""Text that a model writes: generators that answer requests, a ledger of what was answered, and the makers that ask."""
