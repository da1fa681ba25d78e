"""What boto3 raises, in plain words. Nothing of a request is repeated."""

from __future__ import annotations

from appfl_gc.payload.retry import PassingError
from appfl_gc.payload.s3.reasons import no_tls, why
from appfl_gc.payload.s3.settings import BUCKET_HINT
from appfl_gc.protocol.errors import AppflGcError, TransferError, UsageError

_PASSING = frozenset(
    {
        "SlowDown", "InternalError", "ServiceUnavailable", "RequestTimeout", "Throttling", "ThrottlingException",
        "TooManyRequests", "503", "500", "502", "504", "429", "OperationAborted", "RequestTimeoutException",
    }
)  # fmt: skip
_REGION = frozenset(
    {"PermanentRedirect", "AuthorizationHeaderMalformed", "IllegalLocationConstraintException", "301", "307"}
)
_LOGIN = "Log in again (`aws sso login`, or new keys), or set s3_creds_file."
GONE = frozenset({"NoSuchKey", "NoSuchUpload", "404"})


class AnsweredError(TransferError):
    """The store answered, and did not do it."""


def code_of(error: Exception) -> str:
    """The store's code for a refusal, or "" if the error is none."""
    response = getattr(error, "response", None)
    code = response.get("Error", {}).get("Code", "") if isinstance(response, dict) else ""
    return str(code)[:60] if str(code).isalnum() else ""


def no_service(what: str, bucket: str, address: str, status: str) -> UsageError:
    """The error for an answer that no S3 service gives; arguments as ``plain``'s."""
    return UsageError(
        f"The S3 bucket {bucket} did not {what}: {address or 'its address'} does not answer as an S3 service "
        f"({status}).",
        "Look at endpoint_url: host and port of the S3 interface, not of a console or of another service.",
    )


def plain(error: Exception, what: str, bucket: str, address: str = "") -> AppflGcError:
    """The error that one of boto3's stands for.

    Args:
        error: of botocore.
        what: the deed, as a verb: "make room for an upload".
        bucket: where.
        address: of the server, ``scheme://host[:port]``; "" where it is not known yet.

    Returns:
        ``PassingError`` where trying again can help, ``UsageError`` where the user must do something, else
        ``TransferError``.
    """
    status = _bare_status(error)
    code, kind = code_of(error) or status, type(error).__name__
    start, at = f"The S3 bucket {bucket}", f" at {address}" if address else ""
    if code in _PASSING:
        return PassingError(
            f"{start} could not {what} ({code}).",
            "The store is overloaded or out of order; or endpoint_url names another service."
            if status
            else "The store is overloaded or out of order.",
        )
    if code == "NoSuchBucket":
        return UsageError(
            f"There is no S3 bucket {bucket}.", "Make it, or correct s3_bucket or endpoint_url."
        )
    if code in ("AccessDenied", "403", "AllAccessDisabled", "AccountProblem"):
        return UsageError(
            f"{start} did not {what}: these credentials have no right to it ({code}).",
            "They need s3:GetObject, s3:PutObject, s3:DeleteObject, s3:AbortMultipartUpload and "
            "s3:ListMultipartUploadParts on the bucket's objects, and s3:ListBucket on the bucket.",
        )
    if code == "InvalidAccessKeyId":
        return UsageError(
            f"{start} does not know the access key.",
            "Look at s3_creds_file, or at boto3's profile and environment.",
        )
    if code == "SignatureDoesNotMatch":
        return UsageError(
            f"{start} does not accept the signature: the secret access key is wrong.",
            "Look at s3_creds_file: the third field. It must be copied whole, also a / or + at its end.",
        )
    if code == "RequestTimeTooSkewed":
        return UsageError(
            f"{start} refuses requests because this machine's clock is wrong.", "Correct the clock (NTP)."
        )
    if code in ("ExpiredToken", "ExpiredTokenException", "InvalidToken", "TokenRefreshRequired"):
        return UsageError(f"{start} did not {what}: the session of these credentials has ended.", _LOGIN)
    if code in _REGION:
        return UsageError(
            f"{start} lies in another region than was configured.",
            "Put the bucket's region into s3_creds_file, or into boto3's configuration.",
        )
    if code == "InvalidBucketName":
        return UsageError(f"The S3 server takes no bucket of the name {bucket}.", BUCKET_HINT)
    if (status and code == status) or kind == "ResponseParserError":
        said = f"status {status}" if status else "its answer can't be read"
        return no_service(what, bucket, address, said)
    if code in GONE:
        return AnsweredError(f"{start} did not {what}: it is not there any more ({code}).")
    if code:
        return AnsweredError(f"{start} did not {what} ({code}).")
    if kind in ("NoCredentialsError", "PartialCredentialsError", "CredentialRetrievalError"):
        return UsageError(
            "There are no S3 credentials on this machine.",
            "Set s3_creds_file, or log in so that boto3 finds some (AWS_PROFILE, `aws configure`, a role).",
        )
    if kind in ("ProfileNotFound", "ConfigParseError", "ConfigNotFound", "InvalidConfigError"):
        return UsageError(
            "boto3's configuration on this machine can't be used: a profile is missing or a file is malformed.",
            "Look at AWS_PROFILE, ~/.aws/config and ~/.aws/credentials.",
        )
    if kind == "RuntimeError":
        return UsageError(f"{start} did not {what}: the session of these credentials has ended.", _LOGIN)
    if kind in ("SSOTokenLoadError", "UnauthorizedSSOTokenError", "TokenRetrievalError", "SSOError"):
        return UsageError("The AWS single sign-on on this machine has ended.", _LOGIN)
    if kind == "ValueError":
        return UsageError(
            "The endpoint_url of the S3 store is not one.", "It is of the form https://host[:port]."
        )
    if kind in ("NoRegionError", "InvalidRegionError"):
        return UsageError("No region of the S3 bucket is known.", "Put it into s3_creds_file or AWS_REGION.")
    if kind == "SSLError" and no_tls(error):
        return UsageError(
            f"{start} can't be reached: nothing speaks TLS at {address or 'its address'}.",
            "If it is a server without TLS, endpoint_url begins with http:// instead of https://.",
        )
    if kind == "SSLError":
        return TransferError(
            f"{start}: its server{at} has a certificate that no known authority signed.",
            "Set AWS_CA_BUNDLE to a file with the authority's certificate.",
        )
    if kind == "ProxyConnectionError":
        return PassingError(
            f"{start} can't be reached through the proxy.", "Look at HTTPS_PROXY and NO_PROXY."
        )
    if kind in ("EndpointConnectionError", "ConnectTimeoutError"):
        return PassingError(
            f"{start} can't be reached{at}: {why(error) or 'there was no connection'}.",
            "Look at endpoint_url, and whether the server runs.",
        )
    if kind == "ReadTimeoutError":
        return PassingError(
            f"{start} could not {what}: its server{at} did not answer in time.",
            "It is stopped or overloaded.",
        )
    if kind in ("ConnectionClosedError", "HTTPClientError", "ConnectionError"):
        return PassingError(f"{start} could not {what}: the connection broke.")
    return TransferError(f"{start} did not {what} ({kind}).")


def _bare_status(error: Exception) -> str:
    """The status of a refusal that has no code, as no S3 service gives it; else ""."""
    response = getattr(error, "response", None)
    if not isinstance(response, dict):
        return ""
    status = str(response.get("ResponseMetadata", {}).get("HTTPStatusCode", ""))
    code = str(response.get("Error", {}).get("Code", ""))
    return status if code in ("", status) else ""
