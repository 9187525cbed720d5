"""Objects in Google Cloud Storage (gs://) and files on the Hugging Face Hub (hf://).

gcsfs and huggingface_hub know where credentials are, where the servers are, and how repositories
and revisions are named; the bytes come over the same connections as from any web server.
"""

import asyncio
import os
import threading
from typing import TYPE_CHECKING, Any
from urllib.parse import quote, urlencode

from pipeline.errors import PipelineError, UsageError
from pipeline.storage.remote import CONNECTIONS, Answer, Trouble, WebRemote, missing
from pipeline.storage.urls import Entry, redact

if TYPE_CHECKING:
    from aiohttp import ClientResponse


class GsRemote(WebRemote):
    """The objects of all buckets of Google Cloud Storage; STORAGE_EMULATOR_HOST is respected."""

    per_host = CONNECTIONS
    denied_hint = (
        "Sign in with `gcloud auth application-default login`, or check that the account may read "
        "the bucket. A public bucket needs no account."
    )

    def __init__(self, timeout: float) -> None:
        super().__init__(timeout)
        self._google: Any = None
        self._signing = threading.Lock()

    async def stat(self, url: str) -> Entry:
        found = await self._json(self._object(url), url)
        return _gs_entry(url, found)

    async def list(self, prefix: str, deep: bool) -> "list[Entry]":
        bucket, _, key = prefix.partition("://")[2].partition("/")
        entries: list[Entry] = []
        query = {"prefix": key, "maxResults": "1000"} | ({} if deep else {"delimiter": "/"})
        while True:
            path = f"/storage/v1/b/{quote(bucket, safe='')}/o?{urlencode(query)}"
            page = await self._json(path, prefix)
            for item in page.get("items", ()):
                if not item["name"].endswith("/"):  # a marker that stands for a folder
                    entries.append(_gs_entry(f"gs://{bucket}/{item['name']}", item))
            if not page.get("nextPageToken"):
                return entries
            query["pageToken"] = page["nextPageToken"]

    async def get(self, url: str, start: int, version: str | None) -> Answer:
        target, headers = await self._address("/download" + self._object(url) + "?alt=media")
        # Stored compressed, it would else be unpacked on the way, to another size than listed.
        headers["Accept-Encoding"] = "gzip"
        if start:
            headers["Range"] = f"bytes={start}-"
        if version:
            target += f"&ifGenerationMatch={quote(version, safe='')}"
        return self.answer(await self.request("GET", target, url, headers), url)

    async def put(self, url: str, data: bytes) -> None:
        bucket, _, key = url.partition("://")[2].partition("/")
        query = urlencode({"uploadType": "media", "name": key})
        path = f"/upload/storage/v1/b/{quote(bucket, safe='')}/o?{query}"
        target, headers = await self._address(path)
        headers["Content-Type"] = "application/octet-stream"
        (await self.request("POST", target, url, headers, data)).close()

    def version(self, response: "ClientResponse", size: int | None) -> str | None:
        return response.headers.get("x-goog-generation")

    def _object(self, url: str) -> str:
        bucket, _, key = url.partition("://")[2].partition("/")
        if not key:
            raise Trouble(f"{redact(url)} names no object.", missing=True)
        return f"/storage/v1/b/{quote(bucket, safe='')}/o/{quote(key, safe='')}"

    async def _json(self, path: str, url: str) -> Any:
        target, headers = await self._address(path)
        response = await self.request("GET", target, url, headers)
        try:
            return await response.json(content_type=None)
        except ValueError as error:
            raise Trouble(f"{redact(url)}: the answer is no JSON.", "Check the address.") from error
        except Exception as error:
            raise self.trouble(error, url) from error

    async def _address(self, path: str) -> tuple[str, dict[str, str]]:
        """The web address of a path of the API, and the headers that it takes."""
        # Both ask other servers for tokens, and block while they do.
        return await asyncio.to_thread(self._signed, path)

    def _signed(self, path: str) -> tuple[str, dict[str, str]]:
        from google.auth.exceptions import GoogleAuthError

        try:
            with self._signing:  # one search for credentials, and one renewal of them, at a time
                if self._google is None:
                    self._google = _connect_google()
                headers = self._google._get_headers(None)
        except (GoogleAuthError, ValueError) as error:
            raise Trouble(
                f"The Google credentials cannot be used ({type(error).__name__}).",
                "Sign in again with `gcloud auth application-default login`.",
            ) from error
        headers.pop("User-Agent", None)
        return self._google._location + path, headers


def _connect_google() -> Any:
    from fsspec import get_filesystem_class

    # An emulator takes no credentials, and looking for them takes seconds on most machines.
    token = "anon" if os.environ.get("STORAGE_EMULATOR_HOST") else None
    return get_filesystem_class("gs")(token=token, asynchronous=True, skip_instance_cache=True)


def _gs_entry(url: str, item: Any) -> Entry:
    size = str(item.get("size", ""))
    generation = item.get("generation") or item.get("etag")
    return Entry(
        url, int(size) if size.isdigit() else None, str(generation) if generation else None
    )


class HfRemote(WebRemote):
    """Files of repositories: hf://datasets/user/name@revision/path; HF_ENDPOINT is respected."""

    per_host = CONNECTIONS
    denied_hint = "Sign in with `hf auth login`, and accept the terms of a gated dataset."

    def __init__(self, timeout: float) -> None:
        super().__init__(timeout)
        self._hub: Any = None

    async def stat(self, url: str) -> Entry:
        info = await self._ask(url, lambda hub, path: hub.info(path))
        if info.get("type") != "file":
            raise missing(url)
        return _hf_entry(info)

    async def list(self, prefix: str, deep: bool) -> "list[Entry]":
        # A folder, not any prefix: the Hub lists whole folders.
        folder = prefix if prefix.endswith("/") else prefix.rpartition("/")[0]
        found = await self._ask(folder, lambda hub, path: hub.find(path.rstrip("/"), detail=True))
        return [_hf_entry(info) for info in found.values() if "size" in info]

    async def get(self, url: str, start: int, version: str | None) -> Answer:
        target, headers = await self._ask(url, _hf_address)
        if start:
            headers["Range"] = f"bytes={start}-"
        return self.answer(await self.request("GET", target, url, headers), url)

    async def put(self, url: str, data: bytes) -> None:
        raise UsageError(f"{redact(url)} cannot be written here.", "Stage 4 uploads to the Hub.")

    def version(self, response: "ClientResponse", size: int | None) -> str | None:
        return None  # the Hub's ETag and that of the servers which it sends one to differ

    async def _ask(self, url: str, question: Any) -> Any:
        """Ask huggingface_hub, which blocks, in a thread."""
        return await asyncio.to_thread(self._asked, url, question)

    def _asked(self, url: str, question: Any) -> Any:
        from httpx import HTTPError
        from huggingface_hub import HfFileSystem
        from huggingface_hub.errors import HfHubHTTPError

        try:
            if self._hub is None:
                self._hub = HfFileSystem(skip_instance_cache=True, use_listings_cache=False)
            return question(self._hub, url.partition("://")[2])
        except PipelineError:
            raise
        except HfHubHTTPError as error:
            status = error.response.status_code if error.response is not None else 0
            if status in (401, 403):
                raise Trouble(f"Access to {redact(url)} is denied.", self.denied_hint) from error
            if status == 404:
                raise missing(url) from error
            passes = status == 429 or status >= 500
            raise Trouble(
                f"{redact(url)}: the Hub answered HTTP {status}.", "Try again later.", passes=passes
            ) from error
        except (FileNotFoundError, NotImplementedError, ValueError) as error:
            raise missing(url) from error
        except (HTTPError, OSError) as error:
            raise Trouble(
                f"{redact(url)}: the Hub cannot be reached.",
                "Check the network and HF_ENDPOINT.",
                passes=True,
                reached=False,
            ) from error


def _hf_address(hub: Any, path: str) -> tuple[str, dict[str, str]]:
    from huggingface_hub import hf_hub_url

    place = hub.resolve_path(path)
    url = hf_hub_url(
        place.repo_id,
        place.path_in_repo,
        repo_type=place.repo_type,
        revision=place.revision,
        endpoint=hub.endpoint,
    )
    return url, dict(hub._api._build_hf_headers())


def _hf_entry(info: Any) -> Entry:
    lfs = info.get("lfs")
    version = (lfs.get("sha256") if hasattr(lfs, "get") else None) or info.get("blob_id")
    return Entry(f"hf://{info['name']}", info.get("size"), version)
