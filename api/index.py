"""Vercel's entry, and the one for `flask --app api.index run`: both look for `app` in this file."""

from jobs.http import create_app

app = create_app()
