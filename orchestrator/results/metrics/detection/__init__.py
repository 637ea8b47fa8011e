"""How well one number per sample tells two sorts of samples apart, and how sure that is."""
