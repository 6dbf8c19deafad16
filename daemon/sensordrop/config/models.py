"""What can be configured, with every default: the keys of sensordrop.yaml and of a delivery.

A setting is declared once, with its kind, its default and its meaning. The mistakes' words and
the tables of docs/configuration.md are made of the same declaration.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from types import NoneType
from typing import Annotated, Any, get_args

from pydantic import BaseModel, ConfigDict, Field, GetCoreSchemaHandler, model_validator
from pydantic_core import CoreSchema, core_schema

from sensordrop.config.addresses import (
    DatabaseUrl,
    HttpUrl,
    Listen,
)
from sensordrop.config.bandwidth import BandwidthLimit
from sensordrop.config.endpoints import Endpoint, EndpointKind
from sensordrop.config.kinds import (
    AbsolutePath,
    ByteCount,
    Kind,
    Number,
    OneOf,
    Share,
    SocketMode,
    Text,
    TrueOrFalse,
    WholeNumber,
)
from sensordrop.config.names import (
    AfterVerified,
    BucketName,
    Extensions,
    Patterns,
    Prefix,
    Tags,
)
from sensordrop.config.notifications import Notification, NotificationKind
from sensordrop.config.principals import Grants
from sensordrop.config.problem import did_you_mean
from sensordrop.core.principal import Grant

KIBIBYTE = 1024
MEBIBYTE = 1024 * KIBIBYTE
GIBIBYTE = 1024 * MEBIBYTE

STORAGE_CLASSES = (
    "STANDARD",
    "STANDARD_IA",
    "ONEZONE_IA",
    "INTELLIGENT_TIERING",
    "GLACIER",
    "GLACIER_IR",
    "DEEP_ARCHIVE",
    "EXPRESS_ONEZONE",
    "OUTPOSTS",
    "REDUCED_REDUNDANCY",
    "SNOW",
)
"""AWS's storage classes (Amazon S3 API, PutObject). Other stores may have their own."""

CANNED_ACLS = (
    "private",
    "public-read",
    "public-read-write",
    "authenticated-read",
    "aws-exec-read",
    "bucket-owner-read",
    "bucket-owner-full-control",
)
"""AWS's canned ACLs that a put may name (Amazon S3 User Guide, "Access control list overview")."""

ARCHIVE_CLASSES = ("GLACIER", "DEEP_ARCHIVE")
"""Storage classes whose objects can't be read without being restored first."""

KMS_ENCRYPTION = ("aws:kms", "aws:kms:dsse")

_NAME = Text(
    "a name of letters, digits, '.', '_', '-' and spaces that begins with a letter or digit",
    limit=63,
    pattern=r"[^\W_][\w. -]*",
)
_TIMETABLE = " May be a timetable; its times are the station's own unless it ends with a time zone."


@dataclass(frozen=True)
class Setting:
    """What is known of one key, beside its type and default. Stands in the field's annotation."""

    kind: Kind
    meaning: str
    default: str = ""
    """The default in words, where it follows from other settings."""

    def __get_pydantic_core_schema__(
        self, source: Any, handler: GetCoreSchemaHandler
    ) -> CoreSchema:
        """Let pydantic read the field through its kind."""
        return core_schema.no_info_plain_validator_function(
            self.reader(NoneType in get_args(source))
        )

    def reader(self, optional: bool) -> Callable[[object], object]:
        """Give the function that reads a value. Where none is possible, '' means none too."""

        def read(value: object) -> object:
            if optional and (value is None or value == ""):
                return None
            return self.kind.read(value)

        return read


class _Settings(BaseModel):
    """Settings of one file, read-only. Every field carries a `Setting`."""

    model_config = ConfigDict(frozen=True, extra="forbid", hide_input_in_errors=True)

    def public_dict(self) -> dict[str, object]:
        """Give all settings in force, JSON-able and without secrets."""
        return {
            key: setting.kind.public(getattr(self, key))
            for key, setting in settings(type(self)).items()
        }


@cache
def settings(model: type[_Settings]) -> Mapping[str, Setting]:
    """Give the settings of a model by key, in the order of their declaration."""
    found: dict[str, Setting] = {}
    for key, field in model.model_fields.items():
        (found[key],) = (item for item in field.metadata if isinstance(item, Setting))
    return found


def read_setting(model: type[_Settings], key: str, value: object) -> object:
    """Read one value of a key that the model has. Raises NotExpectedError."""
    optional = NoneType in get_args(model.model_fields[key].annotation)
    return settings(model)[key].reader(optional)(value)


class DaemonConfig(_Settings):
    """The keys of sensordrop.yaml, except `defaults`."""

    station: Annotated[
        str | None,
        Setting(
            _NAME,
            "Name of this host in the ledger. Must not change while the ledger knows it.",
            default="generated once, kept in `state_directory`",
        ),
    ] = None
    database: Annotated[
        str,
        Setting(
            DatabaseUrl(),
            "Where the ledger is. `embedded` runs a PostgreSQL of its own in `state_directory`.",
        ),
    ] = Field(default="embedded", repr=False)
    state_directory: Annotated[
        Path,
        Setting(
            AbsolutePath(),
            "What must outlive a restart: the station's name, the embedded ledger. "
            "One process at a time.",
        ),
    ] = Path("/var/lib/sensordrop")
    control_socket: Annotated[
        Path | None,
        Setting(
            AbsolutePath(),
            "Unix socket at which `sensordrop` and others ask the daemon and tell it what to do.",
            default="`control.sock` in `state_directory`; `/run/sensordrop/control.sock` where "
            "that is `/var/lib/sensordrop`",
        ),
    ] = None
    control_group: Annotated[
        str | None,
        Setting(
            Text("the name of a group", limit=64, pattern=r"[A-Za-z0-9_][A-Za-z0-9_.-]*"),
            "Who is in this group may control the daemon, beside root and the daemon's own user.",
            default="`sensordrop`, if there is such a group",
        ),
    ] = None
    control_mode: Annotated[
        str,
        Setting(
            SocketMode(),
            "Who can connect to the control socket: the daemon's user, `control_group` too, or "
            "everybody. Whoever can connect may look; only the group may change something.",
        ),
    ] = "0660"
    control_principals: Annotated[
        tuple[Grant, ...],
        Setting(
            Grants(),
            "Users and groups who may look (`viewer`) or also steer (`admin`), of some clients or "
            "of all, whatever group they are in; the first that fits holds. Where any is named, "
            "whoever is neither named nor in `control_group` may do nothing.",
        ),
    ] = ()
    metrics_listen: Annotated[
        str | None,
        Setting(
            Listen(),
            "Where `/metrics`, `/healthz` and `/readyz` are served, to whoever can connect: by "
            "default to this machine alone. If the address is taken, uploads go on without.",
        ),
    ] = "127.0.0.1:9464"
    log_format: Annotated[
        str,
        Setting(OneOf(("console", "json", "journal")), "How log lines are written."),
    ] = "console"
    log_level: Annotated[
        str,
        Setting(OneOf(("debug", "info", "warning", "error")), "The least that is logged."),
    ] = "info"
    bandwidth: Annotated[
        str | None,
        Setting(BandwidthLimit(), "Limit of all uploads together." + _TIMETABLE, default="`off`"),
    ] = None
    audit_share_per_day: Annotated[
        str,
        Setting(
            Share(),
            "The share of all stored objects that is looked at each day, whether they are still "
            "there and as they were. `0` switches it off.",
        ),
    ] = "1%"


class DeliveryConfig(_Settings):
    """The keys of one delivery's file. All times are in seconds."""

    name: Annotated[
        str,
        Setting(_NAME, "Name of the delivery, unique on its station.", default="the file's stem"),
    ]
    local_directory: Annotated[
        Path,
        Setting(
            AbsolutePath(),
            "The watched folder. It need not exist yet: until it appears, the delivery is offline.",
        ),
    ]
    bucket_name: Annotated[str, Setting(BucketName(), "The bucket that the files go to.")]
    s3_prefix: Annotated[
        str,
        Setting(
            Prefix(),
            "What the keys begin with: `<s3_prefix>/<path under local_directory>`.",
        ),
    ] = ""
    client: Annotated[str, Setting(Text(), "The company that owns the data.")] = "default"
    project: Annotated[
        str, Setting(Text(), "The client's unit of work.", default="`bucket_name`")
    ] = Field(default_factory=lambda done: str(done["bucket_name"]))
    cycle: Annotated[
        str,
        Setting(
            Text(limit=512, may_be_empty=True),
            "The round of field collection. Only a name: keys are made of `s3_prefix`.",
            default="`s3_prefix`",
        ),
    ] = Field(default_factory=lambda done: str(done["s3_prefix"]))
    sensor_level: Annotated[
        int,
        Setting(
            WholeNumber(0, 20),
            "Which folder under `local_directory` names the sensor: 1 is the first. "
            "0: no folder does.",
        ),
    ] = 1
    enabled: Annotated[
        bool, Setting(TrueOrFalse(), "`false`: neither swept nor watched nor uploaded.")
    ] = True
    listing_age_seconds: Annotated[
        float,
        Setting(
            Number(60, 31_536_000),
            "The bucket is listed below `s3_prefix` when it never was, when the last listing is "
            "older than this, or when more than 1,000 files come at once; so what is there "
            "already is known before it is sent.",
        ),
    ] = 86_400.0
    priority: Annotated[
        int,
        Setting(
            WholeNumber(-1000, 1000),
            "Deliveries with a larger number are served first, equal ones in the order of names.",
        ),
    ] = 0
    shared: Annotated[
        bool,
        Setting(
            TrueOrFalse(),
            "Several stations work on this delivery together: all say so, under the same name.",
        ),
    ] = False
    shares_prefix: Annotated[
        bool,
        Setting(
            TrueOrFalse(),
            "Another delivery may have the same, or a nested, bucket and prefix; both must say so.",
        ),
    ] = False

    include: Annotated[
        tuple[str, ...],
        Setting(Patterns(), "Only files that match one of these are uploaded."),
    ] = ()
    exclude: Annotated[
        tuple[str, ...],
        Setting(Patterns(), "Files that match one of these are not uploaded."),
    ] = ()
    extensions: Annotated[
        tuple[str, ...] | None,
        Setting(
            Extensions(),
            "Only files with these extensions are uploaded, in upper or lower case.",
            default="all extensions",
        ),
    ] = None

    use_find: Annotated[
        bool,
        Setting(TrueOrFalse(), "List the folder with the native `find`; `no`: with Python's walk."),
    ] = True
    watch: Annotated[
        str,
        Setting(
            OneOf(("auto", "inotify", "polling", "off")),
            "How new files are noticed between sweeps. `auto`: polling on network file systems.",
        ),
    ] = "auto"
    quiet_seconds: Annotated[
        float,
        Setting(
            Number(0.1, 86_400),
            "A file counts as complete when it has not changed for so long.",
        ),
    ] = 10.0
    writer_check: Annotated[
        bool,
        Setting(
            TrueOrFalse(),
            "Before reading a file, ask the kernel (by a lease) whether somebody still writes it.",
        ),
    ] = True
    sweep_interval_seconds: Annotated[
        float, Setting(Number(1, 604_800), "Time between sweeps, whatever the watcher reports.")
    ] = 900.0
    vanish_share: Annotated[
        float,
        Setting(
            Number(0, 1),
            "When more than this share of the waiting files is missing (and at least 20), they are "
            "kept until somebody confirms that they are gone: `sensordrop rescan "
            "--confirm-vanished`. 1: nobody is asked.",
        ),
    ] = 0.5

    max_workers: Annotated[int, Setting(WholeNumber(1, 1000), "Uploads at the same time.")] = 15
    times_to_retry: Annotated[
        int,
        Setting(
            WholeNumber(0, 1000),
            "Retries of a file that failed, after the first try. Then it is quarantined.",
        ),
    ] = 3
    retry_delay_seconds: Annotated[
        float, Setting(Number(0, 86_400), "Longest wait before the first retry; then it doubles.")
    ] = 5.0
    retry_cap_seconds: Annotated[
        float, Setting(Number(0, 604_800), "Longest wait before any retry.")
    ] = 3600.0
    pause_after_failures: Annotated[
        int,
        Setting(
            WholeNumber(0, 1_000_000),
            "So many files that fail with nothing stored between pause the delivery until somebody "
            "resumes it; 0: never.",
        ),
    ] = 5
    multipart_threshold_bytes: Annotated[
        int,
        Setting(
            ByteCount(5 * MEBIBYTE, 5 * GIBIBYTE),
            "Files of this size and above are sent in parts.",
        ),
    ] = 64 * MEBIBYTE
    bandwidth: Annotated[
        str | None,
        Setting(
            BandwidthLimit(),
            "Limit of this delivery's uploads, beside that of all uploads: the smaller holds."
            + _TIMETABLE,
            default="`off`",
        ),
    ] = None
    stall_seconds: Annotated[
        float,
        Setting(
            Number(1, 3600),
            "An upload on which no byte moves for so long is broken off and tried again. Waiting "
            "for a bandwidth limit does not count.",
        ),
    ] = 60.0
    session_deadline_seconds: Annotated[
        float | None,
        Setting(
            Number(60, 31_536_000),
            "How long a session may take from its beginning until everything is stored. Nothing "
            "is broken off; metrics and alerts tell when it looks as if it would take longer.",
        ),
    ] = 172_800.0
    engine: Annotated[
        str,
        Setting(
            OneOf(("curl", "boto3")),
            "What sends the bytes: `curl` sends many requests at once from few threads; `boto3` "
            "is for a store that does not get on with that, and takes several times as much "
            "processor time.",
        ),
    ] = "curl"

    aws_profile: Annotated[
        str | None,
        Setting(
            Text("a profile name"),
            "Profile in `~/.aws` that credentials and settings are taken from.",
            default="boto3's own search",
        ),
    ] = None
    aws_region: Annotated[
        str | None,
        Setting(
            Text("a region such as eu-west-1", limit=64, pattern="[A-Za-z0-9_-]+"),
            "Region of the bucket.",
            default="the profile's",
        ),
    ] = None
    endpoint_url: Annotated[
        str | None,
        Setting(
            HttpUrl(),
            "Address of an S3-compatible store.",
            default="`AWS_ENDPOINT_URL_S3`, `AWS_ENDPOINT_URL`, else AWS itself",
        ),
    ] = None
    addressing_style: Annotated[
        str,
        Setting(
            OneOf(("auto", "path", "virtual")),
            "Whether the bucket stands in the URL's path or in its host name.",
        ),
    ] = "auto"
    request_checksum_calculation: Annotated[
        str,
        Setting(
            OneOf(("auto", "when_required", "when_supported")),
            "When boto3 adds a checksum of its own. "
            "`auto`: `when_required` if there is an `endpoint_url`, else `when_supported`.",
        ),
    ] = "auto"
    ca_bundle: Annotated[
        Path | None,
        Setting(
            AbsolutePath(),
            "File of CA certificates that the store's certificate is checked against.",
            default="boto3's own",
        ),
    ] = None
    proxy: Annotated[
        str | None,
        Setting(
            HttpUrl("an http:// or https:// URL of a proxy", bare=False),
            "Proxy on the way to the store.",
            default="`HTTPS_PROXY` and the like",
        ),
    ] = Field(default=None, repr=False)
    acl: Annotated[
        str | None,
        Setting(
            OneOf(CANNED_ACLS),
            "Canned ACL that every object is given. Buckets that AWS makes today refuse any but "
            "`bucket-owner-full-control`.",
            default="none is sent",
        ),
    ] = None
    storage_class: Annotated[
        str | None,
        Setting(
            Text("a storage class such as STANDARD_IA", limit=64, pattern="[A-Z0-9_]+"),
            "Storage class of the objects.",
            default="the bucket's",
        ),
    ] = None
    sse: Annotated[
        str | None,
        Setting(
            OneOf(("AES256", *KMS_ENCRYPTION)),
            "Encryption by the store.",
            default="the bucket's",
        ),
    ] = None
    kms_key_id: Annotated[
        str | None,
        Setting(
            Text("the id, alias or ARN of a KMS key", limit=2048, pattern=r"[\w:/-]+"),
            "Key of the encryption; only with `sse: aws:kms` or `aws:kms:dsse`.",
            default="AWS's own key",
        ),
    ] = None
    tags: Annotated[Mapping[str, str], Setting(Tags(), "Tags of the objects.")] = Field(
        default_factory=dict
    )
    store_check: Annotated[
        str,
        Setting(
            OneOf(("auto", "payload-hash", "content-md5", "read-back")),
            "How the store must prove that it holds the bytes that were sent. `auto`: by their "
            "signed SHA-256 where it is AWS or was seen to refuse a wrong one, else by "
            "`Content-MD5`. `payload-hash`: by the SHA-256, on your word. `content-md5`: always by "
            "that too. `read-back`: every object is read again and compared.",
        ),
    ] = "auto"

    endpoint: Annotated[
        Endpoint | None,
        Setting(
            EndpointKind(),
            "Who is told, by a signed request, when a session has ended "
            "([registration.md](registration.md)).",
        ),
    ] = Field(default=None, repr=False)
    notify: Annotated[
        Notification | None,
        Setting(
            NotificationKind(),
            "Who is notified when a session begins, when something fails in it, and when it has "
            "ended, in words of your own ([registration.md](registration.md#notifications)).",
        ),
    ] = Field(default=None, repr=False)
    session_receipt: Annotated[
        bool,
        Setting(
            TrueOrFalse(),
            "End each session with a receipt: the folder is listed and the store is asked for "
            "every file of the delivery before the session ends.",
        ),
    ] = False
    after_verified: Annotated[
        str,
        Setting(
            AfterVerified(),
            "What becomes of a file in `local_directory` once a receipt says SAFE, and the file and "
            "the store were asked once more ([receipts.md](receipts.md)). The service must be let "
            "write there ([systemd.md](operating/systemd.md)).",
        ),
    ] = "keep"

    @model_validator(mode="after")
    def _holds_together(self) -> DeliveryConfig:
        if findings := contradictions(self):
            raise ContradictionError(findings)
        return self


@dataclass(frozen=True, kw_only=True, slots=True)
class Contradiction:
    """Settings of one delivery that can't hold together. `keys[0]` is the one to name."""

    keys: tuple[str, ...]
    what: str
    expected: str
    suggestion: str = ""


class ContradictionError(ValueError):
    """A delivery's settings can't hold together."""

    def __init__(self, findings: tuple[Contradiction, ...]) -> None:
        super().__init__("; ".join(f"{finding.keys[0]}: {finding.what}" for finding in findings))
        self.findings = findings


def contradictions(delivery: DeliveryConfig) -> tuple[Contradiction, ...]:
    """Find the settings of one delivery that can't hold together."""
    found: list[Contradiction] = []
    if delivery.kms_key_id is not None and delivery.sse not in KMS_ENCRYPTION:
        found.append(
            Contradiction(
                keys=("kms_key_id", "sse"),
                what=f"is set, but sse is {delivery.sse or 'not set'}",
                expected="sse: aws:kms or sse: aws:kms:dsse beside kms_key_id",
                suggestion="add 'sse: aws:kms'",
            )
        )
    foreign_class = delivery.storage_class not in (None, *STORAGE_CLASSES)
    if foreign_class and delivery.endpoint_url is None:
        found.append(
            Contradiction(
                keys=("storage_class", "endpoint_url"),
                what=f"{delivery.storage_class!r} is not one of AWS's storage classes",
                expected="one of " + ", ".join(STORAGE_CLASSES),
                suggestion=did_you_mean(delivery.storage_class or "", STORAGE_CLASSES),
            )
        )
    if delivery.store_check == "read-back" and delivery.storage_class in ARCHIVE_CLASSES:
        found.append(
            Contradiction(
                keys=("store_check", "storage_class"),
                what=f"is read-back, but objects of class {delivery.storage_class} can't be read",
                expected="another store_check, or a class that can be read at once",
                suggestion="leave store_check out, or use storage_class: GLACIER_IR",
            )
        )
    target = delivery.after_verified.partition(":")[2]
    if target and Path(target).is_relative_to(delivery.local_directory):
        found.append(
            Contradiction(
                keys=("after_verified", "local_directory"),
                what=f"{target!r} lies inside local_directory, where it would be found again",
                expected="a folder outside local_directory",
            )
        )
    return tuple(found)
