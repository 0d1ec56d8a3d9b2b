"""What a push plans: objects, differences, removals, and where it finds the store. No store is needed."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from pathlib import Path

import pytest

from scr_export.errors import UsageError
from scr_export.oci.digest import Digest
from scr_export.oci.name import ManifestName, RepositoryName, Tag
from scr_export.oci.repository import Catalog, Repository
from scr_export.publish.bucket import keys
from scr_export.publish.bucket.compare import Gone, Listing, compare, in_order, removals
from scr_export.publish.bucket.explain import explain
from scr_export.publish.bucket.keys import BYTES, MARKER, UPSTREAM, Step, is_named_by_content, step_of
from scr_export.publish.bucket.objects import Object, Stored, md5, objects
from scr_export.publish.bucket.settings import Settings, Target
from scr_export.site.roles import Role

RAW = b'{"mediaType": "application/vnd.oci.image.manifest.v1+json"}'
D1, D2 = Digest.of(b"1"), Digest.of(b"2")
KEYS = {"AWS_ACCESS_KEY_ID": "key", "AWS_SECRET_ACCESS_KEY": "secret"}
ENDPOINT = "http://store:9000"


def catalog(tags: Mapping[str, list[str]], algorithm: str = "sha256") -> Catalog[Stored]:
    """Repositories with tags of one manifest, which has one blob."""
    found: Catalog[Stored] = Catalog()
    for name, named in tags.items():
        digest = Digest.of(RAW, algorithm)
        manifest = ManifestName(f"vnd.oci.image.manifest.v1+json@{digest}")
        found.repositories[RepositoryName(name)] = Repository(
            tags={Tag(tag): manifest for tag in named},
            manifests={manifest: Stored(digest, "m", len(RAW), md5(RAW))},
            blobs={D1: Stored(D1, "b", 1)},
        )
    return found


def planned(tags: Mapping[str, list[str]], algorithm: str = "sha256") -> dict[str, Object]:
    return {each.key: each for each in objects(catalog(tags, algorithm), b"list\n")}


def listed(plan: Mapping[str, Object]) -> Listing:
    """The listing of a store that has everything."""
    found = Listing()
    for key, each in plan.items():
        size = len(each.body()) if not isinstance(each.body, Stored) else each.body.size
        found.add(key, size, f'"{(each.md5 or b"?").hex()}"')
    return found


@pytest.mark.parametrize(
    ("key", "step"),
    [
        (f"blobs/{D1}", BYTES),
        (f"v2/a/blobs/{D1}", MARKER),
        (f"v2/a/manifests/{D1}", Step(Role.MANIFEST)),
        ("v2/a/manifests/v1", Step(Role.TAG)),
        (f"v2/a/b/referrers/{D1}/@all", Step(Role.REFERRERS)),
        (f"v2/a/b/referrers/{D1}/application@vnd.x@json", Step(Role.REFERRERS)),
        ("v2/a/tags/list", Step(Role.LIST)),
        ("v2/a/tags/_pages@0/v1@10", Step(Role.LIST_PAGE)),
        ("v2/_catalog/_pages@0/a/b@10", Step(Role.LIST_PAGE)),
        ("v2/_catalog/list", Step(Role.CATALOG)),
        ("v2/_ns/docker.io", UPSTREAM),
        (f"v2/_sigstore/a@sha256={D1.encoded}/signature-1", Step(Role.SIGNATURE)),
        ("v2/_images.txt", Step(Role.IMAGES_TXT)),
        ("v2/a/manifests/blobs/manifests/x", Step(Role.TAG)),
        ("v2/a/other", None),
        ("v2/A/manifests/v1", None),
        ("v2/a/manifests/.x", None),
        ("v2/a/referrers/x@y", None),
        ("v2/a/blobs/x", None),
        ("blobs/x", None),
        ("docker/registry", None),
    ],
)
def test_the_key_of_an_object_tells_its_step(key: str, step: Step | None) -> None:
    assert step_of(key) == step


def test_every_planned_key_has_the_step_that_its_text_tells_and_is_no_directory() -> None:
    plan = planned(
        {"library": ["list", "v1"], "library/app": ["v1", "v2"], "library/app/tags": ["x"], "docker.io/x": []}
    )
    for key, each in plan.items():
        assert step_of(key) == each.step
        assert is_named_by_content(key) == (each.md5 is None and each.step != UPSTREAM)
        assert "+" not in key
        assert not [other for other in plan if other.startswith(f"{key}/")]


def test_a_long_name_has_pages_under_what_a_link_says() -> None:
    long = "/".join(["a" * 100, "b" * 50])
    plan = planned({long: ["v1"], "z": ["v1"]})
    token = f"~{hashlib.sha256(long.encode()).hexdigest()[:16]}"
    pages = [key.rpartition("_pages@")[2].partition("/")[2] for key in plan if key.startswith("v2/_catalog/_pages")]
    assert {f"{long}@1", f"{token}@1"} <= set(pages)
    first = next(each for key, each in plan.items() if key.startswith("v2/_catalog/_pages") and key.endswith("/@1"))
    assert first.metadata["next"] == token


def test_a_component_that_leaves_no_room_for_a_size_has_pages_under_its_token_only() -> None:
    long = "a" * 252
    pages = {key.rpartition("/")[2] for key in planned({long: ["v1"], "z": ["v1"]}) if "_catalog/_pages" in key}
    assert f"{long}@1" in pages
    assert f"{long}@1000" not in pages
    assert max(map(len, pages)) <= 255


def test_the_page_of_one_entry_tells_which_sizes_of_pages_begin_where_it_does() -> None:
    plan = planned({"app": [f"v{number:03}" for number in range(105)], "a" * 252: ["v1"], "z": ["v1"]})
    pages = {key for key in plan if "/_pages@" in key and not key.endswith("/@0")}
    told = {key.removesuffix("1"): plan[key].metadata["sizes"] for key in pages if key.endswith("@1")}
    tags = {start.rpartition("/")[2]: sizes for start, sizes in told.items() if start.startswith("v2/app/")}
    assert [tags[f"{tag}@"] for tag in ("", "v009", "v099", "v008")] == ["1 10 100 1000", "1 10", "1 10", "1"]
    assert pages == {f"{start}{size}" for start, sizes in told.items() for size in sizes.split()}


def test_nothing_differs_where_the_listing_has_everything() -> None:
    plan = planned({"a": ["1", "2"], "b/c": []})
    found = compare(plan.values(), listed(plan), keep_right=False)
    assert (found.send, found.ask, found.gone, found.foreign) == ([], [], [], [])
    assert found.unchanged == found.wanted == len(plan)


def test_an_object_of_another_size_is_sent_and_one_with_another_etag_is_asked_for() -> None:
    plan = planned({"a": ["1"]})
    there = listed(plan)
    there.etags["v2/a/manifests/1"] = "0" * 32
    there.sizes |= {"v2/a/tags/list": 1, f"blobs/{D1}": 0}
    found = compare(plan.values(), there, keep_right=False)
    assert {each.key for each in found.ask} == {"v2/a/manifests/1"}
    assert {each.key for each in found.send} == {"v2/a/tags/list", f"blobs/{D1}"}


def test_a_tag_is_asked_for_where_the_same_bytes_can_have_a_digest_of_another_algorithm() -> None:
    one, other = planned({"a": ["1"]}, "sha512"), planned({"a": ["1"]}, "sha256")
    for before, after in ((one, other), (other, one)):
        found = compare(after.values(), listed(before), keep_right=False)
        assert [each.key for each in found.ask] == ["v2/a/manifests/1"]


def test_objects_that_belong_to_no_bucket_are_named_and_not_removed() -> None:
    there = listed(planned({"a": ["1"]}))
    there.add("v2/strange/thing", 1, "")
    found = compare(planned({}).values(), there, keep_right=False)
    assert found.foreign == ["v2/strange/thing"]
    assert "v2/strange/thing" not in {each.key for each in found.gone}


def test_signatures_move_up_from_the_last_one_where_one_is_added_and_down_where_one_goes() -> None:
    def signature(number: int) -> Object:
        step = Step(Role.SIGNATURE, number)
        return Object(f"v2/_sigstore/a@{D1}/signature-{number}", step, "", {}, bytes, 0, b"")

    send = [signature(1), signature(2), signature(3)]
    there = {each.key for each in send}
    numbers = [each.key[-1] for _, group in in_order(send, there) for each in group]
    assert numbers == ["1", "2", "3"]
    there.remove(send[2].key)
    numbers = [each.key[-1] for _, group in in_order(send, there) for each in group]
    assert numbers == ["3", "2", "1"]


def gone(*names: str) -> list[Gone]:
    return [Gone(name, step) for name in names if (step := step_of(name))]


def test_content_goes_only_when_an_earlier_run_noted_it_long_enough_ago() -> None:
    names = gone("v2/a/manifests/1", f"v2/a/manifests/{D2}", f"v2/a/blobs/{D1}", f"blobs/{D1}", "v2/a/tags/_pages@0/@1")
    first = removals(names, [], {}, now=1000, grace=0)
    assert first.names == [["v2/a/manifests/1"]]
    assert first.due == []
    assert set(first.new) == set(first.unreferenced) == {each.key for each in names} - {"v2/a/manifests/1"}
    later = removals(names[1:], [], dict(first.unreferenced), now=1899, grace=900)
    assert (later.due, later.new) == ([], [])
    due = removals(names[1:], [], dict(first.unreferenced), now=1900, grace=900)
    assert due.due == [
        ["v2/a/tags/_pages@0/@1"],
        [f"v2/a/manifests/{D2}"],
        [f"v2/a/blobs/{D1}"],
        [f"blobs/{D1}"],
    ]


def test_bytes_stay_while_a_repository_says_that_it_has_them() -> None:
    names = gone(f"v2/a/blobs/{D1}", f"blobs/{D1}", f"blobs/{D2}")
    found = removals(names, [], {f"blobs/{D1}": 0, f"blobs/{D2}": 0}, now=1000, grace=900)
    assert found.due == [[f"blobs/{D2}"]]
    assert set(found.unreferenced) == {f"v2/a/blobs/{D1}", f"blobs/{D1}"}


def test_a_note_from_the_future_begins_anew() -> None:
    """The clock was set back."""
    found = removals(gone(f"blobs/{D1}"), [], {f"blobs/{D1}": 5000}, now=1000, grace=900)
    assert found.due == []
    assert found.unreferenced == {f"blobs/{D1}": 1000}


@pytest.mark.parametrize(
    ("new", "old"),
    [("v2/a/manifests/x", "v2/a/manifests/x/tags/list"), ("v2/a/manifests/x/tags/list", "v2/a/manifests/x")],
)
def test_a_key_that_stands_where_a_new_one_needs_a_directory_goes_before(new: str, old: str) -> None:
    send = [Object(new, Step(Role.TAG), "", {}, bytes, 0, b"")]
    found = removals(gone(old, "v2/b/manifests/x"), send, {}, now=0, grace=0)
    assert found.clashing == [[old]]
    assert found.names == [["v2/b/manifests/x"]]


@pytest.mark.parametrize(
    ("text", "bucket", "prefix"),
    [
        ("s3://images", "images", ""),
        ("s3://images/", "images", ""),
        ("s3://images/a/b.c-d_e/", "images", "a/b.c-d_e"),
        ("s3://Old_Bucket", "Old_Bucket", ""),
    ],
)
def test_a_bucket_is_named_with_or_without_a_prefix(text: str, bucket: str, prefix: str) -> None:
    assert Target.parse(text) == Target(bucket, prefix)
    assert str(Target.parse(text)) == text.rstrip("/")


@pytest.mark.parametrize(
    "text",
    [
        *("images", "https://images", "s3:/images", "s3://", "s3:///x", "s3://ab", "s3://a b", "s3://images/a b"),
        *("s3://images/a+b", "s3://images/a%2Fb", "s3://images//a", "s3://images/a//b", "s3://images/../b"),
        *("s3://images/v2", "s3://images/v2/x", "s3://images/blobs", "s3://images/.scr-export", "s3://images/é"),
        "s3://images/" + "a/" * 300,
    ],
)
def test_a_bucket_that_cannot_be_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match=r"s3://|bucket|prefix"):
        Target.parse(text)


@pytest.mark.parametrize(
    "endpoint",
    [
        "store:9000",
        "http://[store",
        "http://store:x",
        "store",
        "ftp://store",
        "http://",
        "http://a:b@store",
        "http://store/?x=1",
        "http://st ore",
    ],
)
def test_an_endpoint_that_is_no_url_is_refused(endpoint: str) -> None:
    with pytest.raises(UsageError, match="--endpoint"):
        Settings.find(endpoint, KEYS)


def test_the_endpoint_is_the_option_then_that_of_s3_then_that_of_all_services(tmp_path: Path) -> None:
    environment = KEYS | {"AWS_ENDPOINT_URL": "http://all", "AWS_ENDPOINT_URL_S3": "http://s3", "HOME": str(tmp_path)}
    assert Settings.find("http://option/", environment).endpoint == "http://option"
    assert Settings.find("", environment).endpoint == "http://s3"
    del environment["AWS_ENDPOINT_URL_S3"]
    assert Settings.find("", environment).endpoint == "http://all"


def profile(home: Path, credentials: str = "", config: str = "") -> dict[str, str]:
    (home / ".aws").mkdir()
    (home / ".aws/credentials").write_text(credentials)
    (home / ".aws/config").write_text(config)
    return {"HOME": str(home)}


def test_credentials_come_from_the_environment_before_a_profile(tmp_path: Path) -> None:
    environment = profile(tmp_path, "[default]\naws_access_key_id = p\naws_secret_access_key = q\n")
    assert Settings.find(ENDPOINT, environment | KEYS).credentials["access_key_id"] == "key"
    found = Settings.find(ENDPOINT, environment)
    assert found.credentials == {"access_key_id": "p", "secret_access_key": "q"}
    assert "q" not in repr(found).replace("AWS", "")


def test_a_named_profile_has_credentials_in_one_file_and_settings_in_the_other(tmp_path: Path) -> None:
    credentials = "[lab]\naws_access_key_id = p\naws_secret_access_key = q%r\naws_session_token = t\n"
    config = "[profile lab]\nregion = eu-1\nendpoint_url = https://lab:8443/\nca_bundle = /etc/lab.pem\n"
    environment = profile(tmp_path, credentials, config) | {"AWS_PROFILE": "lab"}
    found = Settings.find("", environment)
    assert found.credentials == {"access_key_id": "p", "secret_access_key": "q%r", "session_token": "t"}
    assert (found.endpoint, found.region, found.authority) == ("https://lab:8443", "eu-1", "/etc/lab.pem")
    assert "profile lab" in found.source


def test_other_files_can_be_named(tmp_path: Path) -> None:
    (tmp_path / "c").write_text("[default]\naws_access_key_id = p\naws_secret_access_key = q\n")
    environment = {"HOME": str(tmp_path), "AWS_SHARED_CREDENTIALS_FILE": f"{tmp_path}/c"}
    assert Settings.find(ENDPOINT, environment).credentials["access_key_id"] == "p"


@pytest.mark.parametrize(
    ("config", "environment", "match"),
    [
        ("", {}, "there are no credentials"),
        ("", {"AWS_PROFILE": "lab"}, "no profile lab"),
        ("[default]\nrole_arn = x\n", {}, "role_arn, which scr-export does not read"),
        ("[default]\ncredential_process = x\n", {}, "credential_process, which"),
        ("[default\naws_secret_access_key = hidden", {}, "cannot read"),
    ],
)
def test_missing_credentials_are_one_line_with_a_remedy(
    tmp_path: Path, config: str, environment: dict[str, str], match: str
) -> None:
    with pytest.raises(UsageError, match=match) as caught:
        Settings.find(ENDPOINT, profile(tmp_path, config=config) | environment)
    assert "hidden" not in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("name", ["AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN", "AWS_REGION"])
@pytest.mark.parametrize("value", ["hidden\r", "hid den", "hidden\u00e9"])
def test_a_line_break_in_credentials_is_told_without_showing_them(tmp_path: Path, name: str, value: str) -> None:
    with pytest.raises(UsageError, match="such as a line break") as caught:
        Settings.find(ENDPOINT, {"HOME": str(tmp_path)} | KEYS | {name: value})
    assert "hid" not in str(caught.value)


def test_credentials_of_a_cluster_are_left_to_the_library(tmp_path: Path) -> None:
    environment = {"HOME": str(tmp_path), "AWS_WEB_IDENTITY_TOKEN_FILE": "/var/run/token", "AWS_ROLE_ARN": "x"}
    assert Settings.find(ENDPOINT, environment).credentials == {}


def test_aws_itself_may_have_credentials_for_its_machines(tmp_path: Path) -> None:
    assert Settings.find("", {"HOME": str(tmp_path)}).credentials == {}
    with pytest.raises(UsageError, match="there are no credentials"):
        Settings.find("", {"HOME": str(tmp_path), "AWS_EC2_METADATA_DISABLED": "true"})


def answer(status: str, code: str = "", method: str = "GET") -> str:
    """What obstore says of a store's answer, as far as it matters."""
    body = f"<Error><Code>{code}</Code><Message>in words.</Message></Error>" if code else ""
    return f"Error performing {method} http://x in 1ms - Server returned non-2xx status code: {status}: {body}"


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (answer("404 Not Found", "NoSuchBucket"), "there is no bucket images at http://store:9000: make it first"),
        (answer("403 Forbidden", "ExpiredToken"), "refuses the credentials (ExpiredToken): check the environment"),
        (answer("403 Forbidden", "RequestTimeTooSkewed"), "refuses the time of this host"),
        (answer("403 Forbidden", "AccessDenied"), "cannot read x: permission denied; a push needs"),
        (answer("403 Forbidden", method="HEAD"), "cannot read x: permission denied; a push needs"),
        (answer("403 Forbidden"), "cannot read x: http://store:9000 answers 403 Forbidden; is it an S3 store?"),
        (answer("301 Moved", "PermanentRedirect"), "is in another region (PermanentRedirect): set AWS_REGION"),
        (answer("507 Full", "QuotaExceeded"), "cannot read x: QuotaExceeded: in words."),
        ("kind: Timeout,\n source: TimedOut", "does not answer in time"),
        ("InvalidCertificate(\n    Expired,\n)", "(Expired): renew it"),
        ("something\nelse", "cannot read x: something"),
    ],
)
def test_what_a_store_answers_is_explained_in_one_line(text: str, expected: str) -> None:
    settings = Settings(endpoint=ENDPOINT, source="the environment")
    explained = explain(Exception(text), "read x", Target("images", ""), settings)
    assert expected in explained
    assert "\n" not in explained


def test_the_hash_of_a_list_is_in_the_keys_of_its_pages() -> None:
    def pages(tags: list[str]) -> set[str]:
        return {key.rpartition("/")[0] for key in planned({"a": tags}) if "/tags/_pages@" in key}

    [one], [two] = pages(["1"]), pages(["1", "2"])
    assert one != two
    assert planned({"a": ["1"]})["v2/a/tags/list"].metadata["pages"] == one.partition("@")[2]
    assert keys.pages(RepositoryName("a"), one.partition("@")[2]) == one
