"""Objects in S3 and in what speaks its protocol, through s3fs.

Credentials are looked for where every AWS tool looks; where there are none, requests are anonymous.
AWS_ENDPOINT_URL names another server than Amazon's.
"""

import asyncio
from typing import Any

from pipeline.errors import PipelineError
from pipeline.storage.remote import (
    CHECK_NETWORK,
    CONNECTIONS,
    TRY_LATER,
    Answer,
    Trouble,
    broken_off,
    changed,
    missing,
    silent,
    unreachable,
    whole_size,
)
from pipeline.storage.urls import Entry, redact

_PASSING = {
    "SlowDown", "ServiceUnavailable", "InternalError", "RequestTimeout", "Throttling",
    "ThrottlingException", "RequestLimitExceeded", "TooManyRequests", "OperationAborted",
    "500", "502", "503", "504", "408", "429",
}  # fmt: skip
_WRONG_KEYS = {
    "InvalidAccessKeyId": "the access key is not known there",
    "SignatureDoesNotMatch": "the secret key does not fit the access key",
    "InvalidToken": "the session token is not valid",
    "AuthorizationHeaderMalformed": "they are for another region",
}
_EXPIRED = {"ExpiredToken", "ExpiredTokenException", "TokenRefreshRequired", "RequestExpired"}
_DENIED = {"AccessDenied", "AllAccessDisabled", "AccountProblem", "403", "401", "Forbidden"}


class S3Remote:
    """The objects of all buckets. `timeout` is for each wait for bytes, in seconds."""

    def __init__(self, timeout: float) -> None:
        self._timeout = timeout
        self._filesystem: Any = None
        self._client: Any = None
        self._connecting = asyncio.Lock()
        self.anonymous = False

    async def stat(self, url: str) -> Entry:
        bucket, key = _split(url)
        head = await self._call("head_object", url, Bucket=bucket, Key=key)
        return Entry(url, head.get("ContentLength"), _etag(head))

    async def list(self, prefix: str, deep: bool) -> "list[Entry]":
        bucket, key = _split(prefix)
        found: list[Entry] = []
        more = {} if deep else {"Delimiter": "/"}
        while True:
            page = await self._call("list_objects_v2", prefix, Bucket=bucket, Prefix=key, **more)
            for item in page.get("Contents", ()):
                if not item["Key"].endswith("/"):  # a marker that stands for a folder
                    url = f"s3://{bucket}/{item['Key']}"
                    found.append(Entry(url, item.get("Size"), _etag(item)))
            if not page.get("IsTruncated"):
                return found
            more["ContinuationToken"] = page["NextContinuationToken"]

    async def get(self, url: str, start: int, version: str | None) -> Answer:
        bucket, key = _split(url)
        wishes = {"Range": f"bytes={start}-"} if start else {}
        if version:
            wishes["IfMatch"] = f'"{version}"'
        found = await self._call("get_object", url, Bucket=bucket, Key=key, **wishes)
        body = found["Body"]
        partial = found.get("ContentRange")
        size = whole_size(partial) if partial else found.get("ContentLength")

        async def read(count: int) -> bytes:
            try:
                data: bytes = await body.read(count)
            except Exception as error:
                raise self._trouble(error, url) from error
            return data

        return Answer(start if partial else 0, size, _etag(found), read, body.close)

    async def put(self, url: str, data: bytes) -> None:
        bucket, key = _split(url)
        await self._call("put_object", url, Bucket=bucket, Key=key, Body=data)

    async def close(self) -> None:
        if self._filesystem is not None:
            creator = getattr(self._filesystem, "_s3creator", None)
            self._filesystem = self._client = None
            if creator is not None:
                await creator.__aexit__(None, None, None)

    # --- one request --------------------------------------------------------------------------

    async def _call(self, method: str, url: str, **wishes: Any) -> Any:
        if not wishes.get("Key", "key"):
            raise Trouble(f"{redact(url)} names no object.", missing=True)
        try:
            async with self._connecting:
                if self._client is None:
                    self._filesystem = await asyncio.to_thread(self._connect)
                    # Not s3fs's own `_call_s3`: until the first answer it makes a new client for
                    # every call, and closes none of them.
                    self._client = await self._filesystem.set_session()
            return await getattr(self._client, method)(**wishes)
        except Exception as error:
            raise self._trouble(error, url) from error

    def _connect(self) -> Any:
        import fsspec
        from botocore.session import Session  # type: ignore[import-untyped]

        self.anonymous = Session().get_credentials() is None
        return fsspec.filesystem(
            "s3",
            anon=self.anonymous,
            asynchronous=True,
            skip_instance_cache=True,
            config_kwargs={
                "connect_timeout": self._timeout,
                "read_timeout": self._timeout,
                "max_pool_connections": CONNECTIONS,
                # The size is checked here, and tries are counted here, not in three layers.
                "retries": {"total_max_attempts": 1},
                "response_checksum_validation": "when_required",
            },
        )

    def _trouble(self, error: Exception, url: str) -> PipelineError:
        """What an exception of s3fs, botocore or aiohttp means."""
        import aiohttp
        from botocore import exceptions as boto  # type: ignore[import-untyped]

        if isinstance(error, PipelineError):
            return error
        if isinstance(error, boto.ClientError):
            return self._refusal(error, url)
        if isinstance(error, TimeoutError | boto.ReadTimeoutError | boto.ConnectTimeoutError):
            return silent(url, self._timeout)
        if isinstance(
            error,
            boto.ResponseStreamingError | boto.IncompleteReadError | aiohttp.ClientPayloadError,
        ):
            return broken_off(url)
        if isinstance(error, boto.SSLError):
            return Trouble(f"The certificate for {redact(url)} is not trusted.", CHECK_NETWORK)
        if isinstance(error, boto.EndpointConnectionError | boto.ProxyConnectionError):
            return unreachable(url, "no connection")
        if isinstance(error, boto.HTTPClientError | aiohttp.ClientError | OSError):
            return unreachable(url, "the connection broke")
        if isinstance(error, boto.ParamValidationError):
            return Trouble(f"{redact(url)} is no address of S3.", "Check the bucket's name.")
        if isinstance(error, boto.BotoCoreError):
            return Trouble(
                f"The AWS settings cannot be used ({type(error).__name__}).",
                "Check AWS_PROFILE, ~/.aws/config and ~/.aws/credentials, or sign in again.",
            )
        raise error

    def _refusal(self, error: Any, url: str) -> Trouble:
        """What an error code of S3 means."""
        code = str(error.response.get("Error", {}).get("Code", ""))
        status = error.response.get("ResponseMetadata", {}).get("HTTPStatusCode", 0)
        shown = redact(url)
        if code == "NoSuchBucket":
            return Trouble(
                f"The bucket of {shown} does not exist.",
                "Check its name, and AWS_ENDPOINT_URL if it is not at Amazon.",
                missing=True,
            )
        if code in ("NoSuchKey", "404", "NotFound"):
            return missing(url)
        if code in ("PreconditionFailed", "412", "InvalidRange", "416"):
            return changed(url)
        if code in _EXPIRED:
            return Trouble(
                f"The AWS session for {shown} has expired.", "Sign in again (`aws sso login`)."
            )
        if code in _WRONG_KEYS:
            return Trouble(
                f"The AWS credentials are refused for {shown}: {_WRONG_KEYS[code]}.",
                "Check them. A public bucket needs none: remove them for this command.",
            )
        if code in _DENIED:
            return self._denied(shown)
        if code in _PASSING or status in (429, 500, 502, 503, 504):
            return Trouble(f"{shown}: the server is overloaded ({code}).", TRY_LATER, passes=True)
        return Trouble(
            f"{shown} cannot be used: the server answered {code or status}.",
            "Check the address, and AWS_REGION and AWS_ENDPOINT_URL.",
        )

    def _denied(self, shown: str) -> Trouble:
        if self.anonymous:
            return Trouble(
                f"Access to {shown} is denied, and no AWS credentials were found.",
                "Set AWS_PROFILE, or AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY. "
                "Where listing is not allowed, a name that does not exist looks the same.",
            )
        return Trouble(
            f"Access to {shown} is denied to the AWS credentials in use.",
            "They need s3:GetObject and s3:ListBucket. A public bucket needs no credentials: "
            "remove them for this command.",
        )


def _split(url: str) -> tuple[str, str]:
    bucket, _, key = url.partition("://")[2].partition("/")
    return bucket, key


def _etag(answer: Any) -> str | None:
    etag = answer.get("ETag")
    return etag.strip('"') if etag else None
