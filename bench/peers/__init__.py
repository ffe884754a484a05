"""The edge beside others' servers that do the same: one load, one Redis, one core for each server in turn."""
