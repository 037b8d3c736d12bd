"""The `har-cache` command line: one file a command; installed as `har_cache_cli`."""
