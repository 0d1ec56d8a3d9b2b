"""Say in one line why a store did not do what it was asked, and what to do. Errors of obstore have thirty lines."""

from __future__ import annotations

import re

from scr_export.publish.bucket.settings import Settings, Target
from scr_export.text import printable

_ABSENT = (None, "NoSuchKey", "NoSuchObject")  # the answer to HEAD has no body, and so no code
_BAD_CREDENTIALS = (
    "InvalidAccessKeyId",
    "SignatureDoesNotMatch",
    "InvalidToken",
    "ExpiredToken",
    "XAdminUserNotFound",
)
_DENIED = ("AccessDenied", "AllAccessDisabled")
_OTHER_REGION = ("PermanentRedirect", "AuthorizationHeaderMalformed", "IllegalLocationConstraintException")
_NEEDED = "s3:ListBucket, s3:GetObject, s3:PutObject and s3:DeleteObject"
_OF_CERTIFICATES = {
    "UnknownIssuer": "let AWS_CA_BUNDLE name a file with the certificate of its authority",
    "CaUsedAsEndEntity": "it is that of an authority, which must sign one for the server",
}


def is_absent(error: FileNotFoundError) -> bool:
    """Tell whether a 404 says that there is no such object, and not that there is no bucket or no such user."""
    return _code(str(error)) in _ABSENT


def explain(error: BaseException, action: str, target: Target, settings: Settings) -> str:
    """Return the line. `action` is what failed, as in `read s3://bucket/key`. No credentials are in it."""
    text = str(error)
    code = _code(text)
    at = f" at {settings.endpoint}" if settings.endpoint else ""
    if code == "NoSuchBucket":
        return f"there is no bucket {target.bucket}{at}: make it first"
    if code in _BAD_CREDENTIALS:
        return f"the store{at} refuses the credentials ({code}): check {settings.source}"
    if code == "RequestTimeTooSkewed":
        return f"the store{at} refuses the time of this host ({code}): set the clock"
    if code in _DENIED or ("performing HEAD" in text and "403 Forbidden" in text):
        return f"cannot {action}: permission denied; a push needs {_NEEDED} there"
    if code in _OTHER_REGION:
        return f"the bucket {target.bucket} is in another region ({code}): set AWS_REGION"
    if code:
        message = re.search(r"<Message>([^<]*)</Message>", text)
        return f"cannot {action}: {code}" + (f": {printable(message[1])}" if message else "")
    return f"cannot {action}: {_transport(text, settings.endpoint or 'the store')}"


def _code(text: str) -> str | None:
    match = re.search(r"<Code>(\w+)</Code>", text)
    return match[1] if match else None


def _transport(text: str, host: str) -> str:
    """Say why there was no answer, or none of S3."""
    if match := re.search(r'error: "(failed to lookup address[^"]*)"', text):
        return f"{host} does not resolve: {match[1]}"
    if match := re.search(r'message: "([^"]+)"', text):
        return f"{host} does not answer: {match[1]}"
    if "kind: Timeout" in text or "TimedOut" in text:
        return f"{host} does not answer in time; try again, over a slow line with --jobs 1"
    if match := re.search(r"InvalidCertificate\(\s*(?:Other\(\s*OtherError\(\s*)?(\w+)", text):
        remedy = _OF_CERTIFICATES.get(match[1], "renew it, or ask for the host that it names")
        return f"the certificate of {host} is not accepted ({match[1]}): {remedy}"
    if "InvalidContentType" in text:
        return f"{host} does not speak TLS; is it http://?"
    if match := re.search(r"status code: (\d+ [\w ]+)", text):
        return f"{host} answers {match[1]}; is it an S3 store?"
    return printable(text.partition("\n")[0])
