"""The dashboard: pages for the people who look after jobs, drawn here and readable without scripts.

Nothing of it is loaded before somebody opens one of its pages; see :mod:`jobs.http.pages`.
"""
