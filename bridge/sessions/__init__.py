"""Model sessions of one call: which one leads, and what each is fed with."""
