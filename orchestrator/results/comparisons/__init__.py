"""Models against each other on the same samples: which differences are more than luck."""
