"""The `sensordrop` command line, one module per verb."""
