"""The ``ansm-fast`` command: one file a subcommand, imported only when it is called."""
