"""Where a bucket is, and with which credentials: from arguments, the environment, and the files of other S3 tools."""

from __future__ import annotations

import configparser
import os
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from urllib.parse import urlsplit

from scr_export.errors import UsageError
from scr_export.publish.bucket import keys
from scr_export.site import paths
from scr_export.text import printable

_SCHEME = "s3://"
_BUCKET = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{2,62}")
_PREFIX = re.compile(r"[A-Za-z0-9_.-]{1,100}(?:/[A-Za-z0-9_.-]{1,100})*")
_LONGEST_PREFIX = 400  # a key has up to 1024 bytes
_TEXT = re.compile(r"[!-~]*")
_RESERVED = (paths.REGISTRY, keys.BLOBS, paths.STATE)

# What obstore itself finds: a token of a cluster, and a container's credentials.
_FOUND_ELSEWHERE = (
    "AWS_WEB_IDENTITY_TOKEN_FILE",
    "AWS_CONTAINER_CREDENTIALS_RELATIVE_URI",
    "AWS_CONTAINER_CREDENTIALS_FULL_URI",
)
_NOT_READ = ("role_arn", "sso_session", "sso_start_url", "credential_process", "credential_source", "source_profile")


@dataclass(frozen=True, slots=True)
class Target:
    """A bucket, and a prefix of all keys in it, which is empty or ends in no slash."""

    bucket: str
    prefix: str

    @classmethod
    def parse(cls, text: str) -> Target:
        """Read `s3://BUCKET[/PREFIX]`. ValueError says what is wrong with another text."""
        if not text.startswith(_SCHEME):
            raise ValueError(f"{text!r:.200} is not s3://BUCKET or s3://BUCKET/PREFIX")
        bucket, _, prefix = text.removeprefix(_SCHEME).partition("/")
        prefix = prefix.rstrip("/")
        if not _BUCKET.fullmatch(bucket):
            raise ValueError(f"{bucket!r:.200} is not the name of a bucket: 3 to 63 letters, digits, '.' and '-'")
        parts = prefix.split("/")
        if prefix and (not _PREFIX.fullmatch(prefix) or {".", ".."} & set(parts) or len(prefix) > _LONGEST_PREFIX):
            raise ValueError(f"{prefix!r:.200} cannot be a prefix: letters, digits, '.', '_' and '-' between slashes")
        if parts[0] in _RESERVED:
            raise ValueError(f"a prefix cannot begin with {parts[0]}: the bucket itself may hold a registry there")
        return cls(bucket, prefix)

    def __str__(self) -> str:
        return f"{_SCHEME}{self.bucket}" + (f"/{self.prefix}" if self.prefix else "")


@dataclass(frozen=True, slots=True)
class Settings:
    """How a store is reached. `credentials` are empty where obstore finds them itself, and are never printed.

    `source` says where they are from. `authority` is the path of a file with certificates, or empty.
    """

    endpoint: str = ""
    region: str = ""
    authority: str = ""
    source: str = ""
    credentials: Mapping[str, str] = field(default_factory=dict, repr=False)

    @classmethod
    def find(cls, endpoint: str, environment: Mapping[str, str]) -> Settings:
        """Take what the options say, then the environment, then the profile of ~/.aws. UsageError: nothing fits."""
        profile = _Profile.read(environment)
        endpoint = (
            endpoint
            or environment.get("AWS_ENDPOINT_URL_S3")
            or environment.get("AWS_ENDPOINT_URL")
            or profile.values.get("endpoint_url", "")
        )
        region = environment.get("AWS_REGION") or environment.get("AWS_DEFAULT_REGION") or profile.values.get("region")
        source, credentials = _credentials(environment, profile, bool(endpoint))
        for name, value in (("region", region or ""), *credentials.items()):
            if not _TEXT.fullmatch(value):  # obstore would panic
                raise UsageError(f"the {name} has a character that none has, such as a line break; look at {source}")
        return cls(
            endpoint=_checked(endpoint),
            region=region or "us-east-1",
            authority=environment.get("AWS_CA_BUNDLE") or profile.values.get("ca_bundle", ""),
            source=source,
            credentials=credentials,
        )


def _checked(endpoint: str) -> str:
    """Return an endpoint without a slash at its end. An endpoint that is no URL makes obstore panic."""
    try:
        url = urlsplit(endpoint)
        is_url = url.scheme in ("http", "https") and bool(url.hostname) and url.port != 0
    except ValueError:
        is_url = False
    if not endpoint:
        return ""
    if not is_url or url.query or url.fragment or url.username or not re.fullmatch(r"[!-~]+", endpoint):
        raise UsageError(f"--endpoint: {printable(endpoint)!r:.200} is not http(s)://HOST[:PORT]")
    return endpoint.rstrip("/")


@dataclass(frozen=True, slots=True)
class _Profile:
    """A profile of ~/.aws/credentials and ~/.aws/config, put together."""

    name: str
    values: Mapping[str, str]

    @classmethod
    def read(cls, environment: Mapping[str, str]) -> _Profile:
        home = environment.get("HOME") or os.path.expanduser("~")
        shared = environment.get("AWS_SHARED_CREDENTIALS_FILE") or f"{home}/.aws/credentials"
        config = environment.get("AWS_CONFIG_FILE") or f"{home}/.aws/config"
        asked = environment.get("AWS_PROFILE") or environment.get("AWS_DEFAULT_PROFILE")
        name = asked or "default"
        section = name if name == "default" else f"profile {name}"
        found = _section(config, section) | _section(shared, name)
        if asked and not found:
            raise UsageError(f"AWS_PROFILE: there is no profile {printable(asked)} in {shared} or {config}")
        return cls(name, found)


def _section(path: str, name: str) -> dict[str, str]:
    parser = configparser.RawConfigParser(default_section="", strict=False)
    try:
        with open(path, encoding="utf-8") as file:
            parser.read_file(file)
    except (FileNotFoundError, NotADirectoryError):
        return {}
    except (OSError, ValueError, configparser.Error) as error:
        reason = (error.strerror if isinstance(error, OSError) else None) or type(error).__name__
        raise UsageError(
            f"cannot read {printable(path)}: {reason}"
        ) from None  # the text of the error may quote a secret
    return dict(parser[name]) if parser.has_section(name) else {}


def _credentials(environment: Mapping[str, str], profile: _Profile, has_endpoint: bool) -> tuple[str, dict[str, str]]:
    """Return where credentials are from, in words, and the credentials."""
    names = ("access_key_id", "secret_access_key", "session_token")
    if environment.get("AWS_ACCESS_KEY_ID") and environment.get("AWS_SECRET_ACCESS_KEY"):
        found = {name: value for name in names if (value := environment.get(f"AWS_{name.upper()}"))}
        return "AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY", found
    if elsewhere := [name for name in _FOUND_ELSEWHERE if environment.get(name)]:
        return f"what {elsewhere[0]} leads to", {}
    found = {name: value for name in names if (value := profile.values.get(f"aws_{name}"))}
    if "access_key_id" in found and "secret_access_key" in found:
        return f"the profile {printable(profile.name)} in ~/.aws/credentials", found
    if other := [name for name in _NOT_READ if name in profile.values]:
        raise UsageError(
            f"the profile {printable(profile.name)} has {other[0]}, which scr-export does not read: put credentials "
            "into AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY and AWS_SESSION_TOKEN"
        )
    if has_endpoint or environment.get("AWS_EC2_METADATA_DISABLED", "").lower() == "true":
        raise UsageError(
            "there are no credentials: set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or write a profile to "
            "~/.aws/credentials and name it in AWS_PROFILE"
        )
    return "the role of this machine", {}  # of AWS
