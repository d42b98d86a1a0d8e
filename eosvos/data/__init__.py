"""Videos with object masks: where they come from, how they are kept, which tasks are drawn from them."""
