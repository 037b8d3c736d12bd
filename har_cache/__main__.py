"""`python -m har_cache`: the command line."""

if __name__ == "__main__":  # worker processes, which import this under another name, need nothing of it
    from har_cache_cli.main import main

    main()
