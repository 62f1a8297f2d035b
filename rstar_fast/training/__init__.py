"""Training of policies and process preference models; it meets the search in files only."""
