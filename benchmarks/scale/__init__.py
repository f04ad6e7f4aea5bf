"""What a million shards ask of the driver, of storage and of whoever looks at them; and what a whole recipe takes.

`nothing` is work that does nothing, `driver` runs it through the real `execute.run`, `storage_bill` counts the requests
of a real build against an S3 server, `model` is arithmetic over figures that were measured.
`python -m benchmarks.scale` does all of it.
"""
