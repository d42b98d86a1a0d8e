"""Readers: one kind of files each, all giving sequences."""
