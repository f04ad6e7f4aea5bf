"""S3 and what speaks like it, as fsspec's file system with one kind of retry: bounded, counted, of whole answers.

In: calls of s3fs. Out: their answers, or an error that says whether trying later may help. An answer counts when all of
its body is there, so a connection that breaks in the middle of one is a try like any other. Credentials, region and
endpoint are found as every AWS tool finds them (AWS_* in the environment, ~/.aws, a machine's or a pod's role).

Knows nothing of what is stored, and lists nothing by itself.
"""

import asyncio
import errno
import io
import os
import random
import secrets
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from typing import Any, ClassVar

import s3fs
from botocore.exceptions import (
    BotoCoreError,
    ClientError,
    CredentialRetrievalError,
    MetadataRetrievalError,
    NoCredentialsError,
    PartialCredentialsError,
)
from botocore.exceptions import ConnectionError as NotConnected
from botocore.exceptions import FlexibleChecksumError as WrongChecksum
from fsspec.asyn import sync, sync_wrapper
from s3fs.core import S3_RETRYABLE_ERRORS
from s3fs.errors import translate_boto_error

from marco_data.errors import MachineError, RecipeError, StorageUnreachable
from marco_data.redact import redacted
from marco_data.storage_counts import COUNTS

PART_BYTES = 16 << 20
MOST_PARTS = 10_000
"""Of one multipart upload, by S3's rules: 156 GiB in parts of PART_BYTES, and larger parts beyond."""
PARTS_AT_ONCE = 4

CREATED_BY = "created-by"
"""An object's metadata: which call created it."""

PASSING = frozenset(
    {
        *("SlowDown", "Throttling", "ThrottlingException", "RequestLimitExceeded", "TooManyRequestsException"),
        *("InternalError", "ServiceUnavailable", "RequestTimeout", "IncompleteBody", "BadDigest"),
        *("XAmzContentSHA256Mismatch", "OperationAborted", "ConditionalRequestConflict"),
    }
)
"""Error codes that say nothing against the request itself."""
EXPIRED = frozenset({"ExpiredToken", "ExpiredTokenException", "TokenRefreshRequired", "RequestExpired"})
"""Credentials that were good: a sidecar or a login may have renewed the file they were read from."""
_RENEW = "renew them (`aws sso login`, ~/.aws, a new pod): the same command goes on where this one stopped"
_KEYS = "look at AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY, AWS_SESSION_TOKEN, AWS_PROFILE and ~/.aws"
_REGION = "AWS_DEFAULT_REGION names the region of the bucket"
MISTAKES: Mapping[str, tuple[str, str]] = {
    "NoSuchBucket": (
        "there is no bucket `{bucket}` at {endpoint}",
        "make it, or look at its name and AWS_ENDPOINT_URL",
    ),
    "InvalidBucketName": ("`{bucket}` is no name of a bucket", "s3://BUCKET/FOLDER"),
    "InvalidAccessKeyId": ("{endpoint} does not know the access key it was given", _KEYS),
    "SignatureDoesNotMatch": ("{endpoint} says that the secret key is not that of the access key", _KEYS),
    "InvalidToken": ("{endpoint} does not accept the session token it was given", _KEYS),
    "RequestTimeTooSkewed": ("{endpoint} has another time than this machine", "set its clock (chrony, timesyncd)"),
    "AuthorizationHeaderMalformed": ("`{bucket}` at {endpoint} is not of region `{region}`", _REGION),
    "PermanentRedirect": ("`{bucket}` is not at {endpoint} in region `{region}`", _REGION),
    "301": ("`{bucket}` is not at {endpoint} in region `{region}`", _REGION),
    "NotImplemented": (
        "{endpoint} cannot do {method} as it was asked",
        "the storage has to know PUT with `If-None-Match: *`: see docs/storage.md",
    ),
    **dict.fromkeys(EXPIRED, ("the credentials for `{bucket}` have expired", _RENEW)),
}
"""What no other request escapes either, by its code: what to say, and the remedy."""
OF_THIS_MACHINE = frozenset({"RequestTimeTooSkewed"})
"""Of those mistakes: what requests of other machines do escape."""
CONFLICT = 409
PRECONDITION_FAILED = 412
NOT_IMPLEMENTED = 501
NO_CREDENTIALS = (NoCredentialsError, CredentialRetrievalError, MetadataRetrievalError)
"""A machine's or a pod's role server did not answer; of a machine's, botocore says it as if there were none."""


class CutShort(Exception):
    """An answer's body ended before the length that its head gave."""


class Body(io.BytesIO):
    """A body that is all here, read as s3fs reads one that is still coming."""

    async def read(self, size: int | None = -1, /) -> bytes:  # type: ignore[override]
        return super().read(size)


class S3(s3fs.S3FileSystem):  # type: ignore[misc]
    """S3 for the root and for sources. One request waits 35 to 70 s in all: it outlasts an outage of 30 s."""

    protocol = ("s3", "s3a")
    retries = 1  # s3fs's own, which know neither a 500 nor a count
    tries = 12
    first_pause = 0.1
    longest_pause = 15.0
    tell_at = 6  # tries: after 3 s in silence a person is told why
    # A server that sends a byte now and then, or stops taking them, never runs into a limit of silence.
    grace = 60.0
    slowest = 64 << 10  # bytes a second, beyond the grace
    # A process that has never had credentials may have been started without: a person is told of that soon.
    longest_without = 5.0
    signed: ClassVar[bool] = False
    """Whether storage has answered this process, which then had credentials."""

    def __init__(self, *args: Any, config_kwargs: Mapping[str, Any] | None = None, **options: Any) -> None:
        # botocore gives a machine's role server 1 s, twice. Where there is none, these are the 8 s until that is told.
        os.environ.setdefault("AWS_METADATA_SERVICE_TIMEOUT", "4")
        # One GET for a small file: with more at once s3fs asks for its size first. Uploads name their own number.
        options.setdefault("max_concurrency", 1)
        once = {"retries": {"total_max_attempts": 1}}
        super().__init__(*args, config_kwargs={**once, **(config_kwargs or {})}, **options)
        self._renewing = asyncio.Lock()

    def pause(self, attempt: int) -> tuple[float, float]:
        """Seconds between a try and the next, at least and at most; drawn, so that workers do not come all at once."""
        most = min(self.longest_pause, self.first_pause * 2 ** (attempt - 1))
        return most / 2, most

    def upload_options(self, size: int) -> dict[str, int]:
        """For `put_file` of a file of so many bytes: what is held in memory is PARTS_AT_ONCE parts."""
        return {"chunksize": max(PART_BYTES, -(-size // MOST_PARTS)), "max_concurrency": PARTS_AT_ONCE}

    async def _call_s3(self, method: str, *given: Any, **arguments: Any) -> Any:
        """The one way of every request: try, and where what went wrong may pass, wait and try again."""
        call = session = None
        asked: dict[str, Any] = {}
        renewed, began = False, time.monotonic()
        for attempt in range(1, self.tries + 1):
            try:
                if call is None:
                    call, session = await self._client_call(method, arguments.get("Bucket"), session)
                asked = asked or self._asked(call, method, *given, **arguments)
                COUNTS.requests[method] += 1
                answer = await self._answer(call, asked)
                S3.signed = True
                return answer
            except RecipeError:
                raise
            except Exception as error:
                S3.signed = S3.signed or status(error) > 0
                if status(error) == PRECONDITION_FAILED and await self._ours_after_all(asked):
                    return {}
                # A HEAD's answer has no body, hence no code: any 400 of one may mean the credentials.
                old = code_of(error) in EXPIRED or (method.startswith("head_") and status(error) == 400)
                if old and not renewed and attempt < self.tries:
                    renewed, call = True, None
                    continue
                cause = passing(error, method)
                where = f"{arguments.get('Bucket', '')}/{arguments.get('Key', arguments.get('Prefix', ''))}"
                if cause is None:
                    raise translated(error, method, where, call) from error
                without = isinstance(error, NO_CREDENTIALS)
                last = attempt == self.tries
                if without and not S3.signed and (last or time.monotonic() - began > self.longest_without):
                    raise translated(error, method, where, call) from error
                if last:
                    raise StorageUnreachable(
                        f"storage did not answer {method} of `{where}` in {self.tries} tries; the last: {said(error)}",
                        hint=f"{_remedy(error, call)}. The same command goes on where this one stopped",
                    ) from error
                COUNTS.retries[cause] += 1
                if attempt == self.tell_at and (S3.signed or not without):
                    waits = f"storage does not answer {method} of `{where}` ({said(error)}): trying on for a minute"
                    print(redacted(waits), file=sys.stderr, flush=True)
                least, most = self.pause(attempt)
                await asyncio.sleep(random.uniform(least, most))
                if without:  # a client without credentials stays so
                    session = self.session if call is None else session
                    call = None
        raise AssertionError("unreachable")

    # s3fs's own name for it, which files that are written piece by piece call, is bound to s3fs's own way.
    call_s3 = sync_wrapper(_call_s3)

    def unfinished_uploads(self, folder: str, before: float) -> list[tuple[str, str]]:
        """(key, upload) of uploads below a folder that began `before` and were never completed."""
        bucket, prefix, _ = self.split_path(folder.rstrip("/"))
        found: list[tuple[str, str]] = []
        more: dict[str, str] = {}
        while True:
            page = self.call_s3("list_multipart_uploads", Bucket=bucket, Prefix=f"{prefix}/" if prefix else "", **more)
            found += [(u["Key"], u["UploadId"]) for u in page.get("Uploads", ()) if u["Initiated"].timestamp() < before]
            if not page.get("IsTruncated"):
                return found
            more = {"KeyMarker": page["NextKeyMarker"], "UploadIdMarker": page["NextUploadIdMarker"]}

    def end_uploads(self, folder: str, uploads: Sequence[tuple[str, str]]) -> None:
        """Throw away the parts of uploads; one that is gone by now is no error."""
        bucket, _, _ = self.split_path(folder)
        for key, upload in uploads:
            with suppress(FileNotFoundError):
                sync(self.loop, self._abort_mpu, bucket, key, upload)

    def _asked(self, call: Callable[..., Any], method: str, *given: Any, **arguments: Any) -> dict[str, Any]:
        """What a client's function is given, the same at every try."""
        asked: dict[str, Any] = self._get_s3_method_kwargs(call, *given, **arguments)
        if "IfNoneMatch" in asked and method == "put_object":  # so that its own is known where a reply was lost
            asked["Metadata"] = {**asked.get("Metadata", {}), CREATED_BY: secrets.token_hex(8)}
        return asked

    async def _client_call(self, method: str, bucket: str | None, old: Any = None) -> tuple[Callable[..., Any], Any]:
        """The client's own function, and the session that its credentials are of: another than `old`."""
        try:
            async with self._renewing:  # who comes second uses what the first has read
                await self.set_session(refresh=old is not None and self.session is old)
            return getattr(await self.get_s3(bucket), method), self.session
        except (ValueError, BotoCoreError) as error:  # an endpoint that is no URL, a profile that is not there
            if passing(error, method) is not None:
                raise
            raise RecipeError(f"no client for S3: {error}", hint=f"look at AWS_ENDPOINT_URL; {_KEYS}") from error

    async def _answer(self, call: Callable[..., Any], asked: Mapping[str, Any]) -> Any:
        """The answer with its body read, where it has one. TimeoutError where bytes come or go too slowly."""
        sent = asked.get("Body")
        async with asyncio.timeout(
            self.grace + (len(sent) if isinstance(sent, (bytes, memoryview)) else 0) / self.slowest
        ):
            answer = await call(**asked)
        if not isinstance(answer, dict):
            return answer
        if undone := answer.get("Errors"):  # of a deletion of many: the answer is a 200 whatever became of each
            raise ClientError({"Error": undone[0], "ResponseMetadata": answer["ResponseMetadata"]}, "DeleteObjects")
        body = answer.get("Body")
        if body is None:
            return answer
        length = answer.get("ContentLength")
        try:
            async with asyncio.timeout(self.grace + (length or 0) / self.slowest):
                data = await body.read()
        finally:
            body.close()
        if length is not None and len(data) != length:
            raise CutShort(f"{len(data)} of {length} bytes came")
        return {**answer, "Body": Body(data)}

    async def _ours_after_all(self, asked: Mapping[str, Any]) -> bool:
        """Whether `create` found what the same call stored before, whose reply was lost.

        That may be at the first try too: the HTTP client sends what it may repeat again by itself, once.
        """
        own = asked.get("Metadata", {}).get(CREATED_BY)
        if own is None:
            return False
        try:
            there = await self._call_s3("head_object", Bucket=asked["Bucket"], Key=asked["Key"])
        except FileNotFoundError:  # another's, who has removed it since, as jobs do with a lease
            return False
        return bool(there.get("Metadata", {}).get(CREATED_BY) == own)


def status(error: Exception) -> int:
    """The HTTP status that an error came with; 0 where it came with none."""
    response = getattr(error, "response", None)
    known = response.get("ResponseMetadata", {}) if isinstance(response, dict) else {}
    return int(known.get("HTTPStatusCode", 0))


def code_of(error: Exception) -> str:
    """S3's own word for what is wrong; empty where it gave none."""
    return str(error.response.get("Error", {}).get("Code", "")) if isinstance(error, ClientError) else ""


def passing(error: Exception, method: str) -> str | None:
    """What to count a try again under; None where another try would fail alike."""
    if isinstance(error, ClientError):
        code = code_of(error)
        if status(error) == CONFLICT and method == "complete_multipart_upload":
            return None  # its parts are void: whoever uploads begins again
        worth = code in PASSING or status(error) == 429 or (status(error) >= 500 and status(error) != NOT_IMPLEMENTED)
        return (code if code in PASSING else str(status(error))) if worth else None
    if isinstance(error, NoCredentialsError):  # a machine's role server that does not answer is passed over in silence
        return type(error).__name__ if os.environ.get("AWS_EC2_METADATA_DISABLED", "").lower() != "true" else None
    if isinstance(error, NO_CREDENTIALS):
        return type(error).__name__
    if isinstance(error, (*S3_RETRYABLE_ERRORS, NotConnected, CutShort, WrongChecksum, ConnectionError, TimeoutError)):
        return type(error).__name__
    return None


def translated(error: Exception, method: str, where: str, call: Callable[..., Any] | None) -> Exception:
    """The error as Python's own kinds name it. Its text holds no credentials: botocore keeps them out of messages."""
    if status(error) == PRECONDITION_FAILED:
        return FileExistsError(where)
    if isinstance(error, (*NO_CREDENTIALS, PartialCredentialsError)):
        return RecipeError(f"no credentials for `{where}`: {error}", hint=_KEYS)
    if code_of(error) in MISTAKES:
        what, remedy = MISTAKES[code_of(error)]
        client = getattr(call, "__self__", None)
        region = getattr(getattr(client, "meta", None), "region_name", None) or "unknown"
        bucket = where.partition("/")[0]
        told = what.format(bucket=bucket, endpoint=_endpoint(call), region=region, method=method)
        kind = MachineError if code_of(error) in OF_THIS_MACHINE else RecipeError
        return kind(f"{told} ({said(error)})", hint=remedy)
    if isinstance(error, BotoCoreError):
        return OSError(str(error))
    if status(error) == CONFLICT:
        return OSError(errno.EBUSY, f"{method} of `{where}`: {said(error)}")
    known: Exception = translate_boto_error(error, message=f"{method} of `{where}`: {said(error)}")
    return known


def _remedy(error: Exception, call: Callable[..., Any] | None) -> str:
    if isinstance(error, NO_CREDENTIALS):
        return "does the role server of this machine or pod answer?"
    return f"is {_endpoint(call)} right and running?"


def _endpoint(call: Callable[..., Any] | None) -> str:
    """Where a client's requests go."""
    return str(getattr(getattr(getattr(call, "__self__", None), "meta", None), "endpoint_url", "the endpoint"))


def said(error: Exception) -> str:
    if isinstance(error, ClientError):
        message = str(error.response.get("Error", {}).get("Message", ""))
        return " ".join(dict.fromkeys(word for word in (str(status(error)), code_of(error), message[:200]) if word))
    return f"{type(error).__name__}: {error}"
