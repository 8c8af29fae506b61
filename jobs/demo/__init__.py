"""The demo: an online shop whose order exports run as background jobs.

It is small and whole, so it can be read as an example of a shop of one's own:

- `tables`: the shop's tables, with the `export_jobs` record of every export
- `shop`: fills them with a generated shop, always the same one
- `datasets`: what may be exported, and by which filters
- `access`: who may ask for an export
- `records`: what the shop's own pages show of an export
- `orders`: the routes and the job kind `export-orders`; name it in JOBS_HANDLERS
- `kinds`: other jobs of a shop: mails, pictures, stock, and some that fail
- `run`: `tickwork demo`; `place`, `server`, `plan`, `drive`, `check` and `show` are its steps

Nothing is imported here.
"""
