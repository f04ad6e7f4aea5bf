"""The page that shows a build: `marco-data dashboard`. Reads a root, writes nothing there but a cache under `runs/`."""
