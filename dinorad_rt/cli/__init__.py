"""The command line: one module per verb, each importing its subject only when it runs."""
