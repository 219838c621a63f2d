"""Find more objects like these, in my survey, with a purity I can trust."""
