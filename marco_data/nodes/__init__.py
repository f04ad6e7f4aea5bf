"""The kinds of work a plan is made of, one a file, in the order a stage is built."""
