"""Ways to run the shard tasks of stage one."""
