"""Videos with object masks: where they come from, how they are stored, which tasks are drawn from them."""
