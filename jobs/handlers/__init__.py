"""The batteries: ready-made handlers, and the parts they are made of.

Nothing is imported here, so that `import jobs.handlers` costs nothing. Each module is usable alone:

- `datasets`: named queries with declared, typed filters, in Python or in a TOML file
- `source`: reads rows from a database, read-only and in constant memory
- `writers`: CSV, JSON Lines and JSON, in constant memory
- `blob`: keeps finished files, in a local directory or in S3
- `mail`: sends one mail: by SMTP, Amazon SES or Resend, into `.eml` files, or on the console
- `email`: the job kind `email`, and `queue_email`
- `links`: signed links to finished files
- `exporting`: an export from the first check to the mail; `export`: the job kind `export`
- `archiving`, `parquet`, `delivering`: several datasets in one file; `data_export`: `data-export`
- `reports`: sections, periods, PDF; `report`: the job kind `report`
- `insights`: the job kind `insights`, and its statistics
- `signing`, `answers`: signatures of webhooks, and what an answer to one means
- `targets`, `dialing`: where a webhook may go, and a POST that goes nowhere else
- `webhook_secrets`: what webhooks are signed with, encrypted or by name
- `webhook`: the job kind `webhook`
- `providers`: how those who send webhooks prove it
- `incoming`: handlers for the webhooks of providers
- `queueing`: how the `queue_...` helpers and the producers' paths make jobs
- `onboarding`: the job kind `tenant-onboarding`
- `sync`: the job kind `data-sync`, connectors and schedules
- `cleanup`, `alert`, `audit_log`: the job kinds `cleanup`, `alert` and `audit_log_created`
"""
