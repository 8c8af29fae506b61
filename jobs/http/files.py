"""``GET /files/<key>``: files of the local blob store, for whoever holds a signed link.

Nothing is served where SECRET_KEY is not set, or where the store is no directory of this machine.
"""

from __future__ import annotations

from http import HTTPStatus

from flask import Flask, Response, request, send_file
from flask.typing import ResponseReturnValue

from jobs.http.problems import problem
from jobs.system import Tickwork


def install(app: Flask, tickwork: Tickwork) -> None:
    """Serve the files, if links to them can be signed."""
    if tickwork.settings.secret_key and "://" not in (tickwork.settings.blob_url or "").replace(
        "file://", ""
    ):
        app.add_url_rule("/files/<path:key>", "tickwork.files", Files(tickwork), methods=["GET"])


class Files:
    """The view. What it is made of is loaded with the first call: a tick needs nothing of it."""

    __name__ = "files"

    def __init__(self, tickwork: Tickwork) -> None:
        self._tickwork = tickwork

    def __call__(self, key: str) -> ResponseReturnValue:
        """The file; 404 for a wrong signature as for a missing file, 410 once the link has ended.

        Who may not read a file shall not learn from here whether it exists.
        """
        from jobs.handlers.blob import DirectoryStore, open_blob_store
        from jobs.handlers.errors import BlobError
        from jobs.handlers.links import is_signed

        settings = self._tickwork.settings
        expires = request.args.get("expires", "")
        signature = request.args.get("signature", "")
        if not is_signed(settings.secret_key or "", key, expires, signature):
            return _no_file()
        if int(expires) <= self._tickwork.clock.now().timestamp():
            return problem(HTTPStatus.GONE, "This link has ended: ask for a new one.")
        store = open_blob_store(settings.blob_url)
        if not isinstance(store, DirectoryStore):
            return _no_file()
        try:
            path = store.path(key)
        except BlobError:
            return _no_file()
        answer: Response = send_file(
            path,
            mimetype="application/octet-stream",
            as_attachment=True,
            download_name=path.name,
            conditional=True,
            max_age=0,
        )
        answer.headers["Cache-Control"] = "private, no-store"
        # Even if a browser could be brought to show it: nothing in it runs or loads.
        answer.headers["Content-Security-Policy"] = "default-src 'none'; sandbox"
        return answer


def _no_file() -> ResponseReturnValue:
    return problem(HTTPStatus.NOT_FOUND, "There is no such file, or this link is not whole.")
