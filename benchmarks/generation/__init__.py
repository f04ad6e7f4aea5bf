"""Is asking engines through this project as fast as feeding them bare? With a model that is small and knows nothing."""
