"""The page to look at matches, and its JSON twin, over the functions of `skytwin.answers`."""
