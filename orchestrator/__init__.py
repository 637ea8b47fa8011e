"""Plans and runs sweeps, and owns the store. No torch."""
