"""Every error that the S3 room handles, and what follows from it: one table.

docs/failures.md shows the same table; a test holds the two equal.
"""

from __future__ import annotations

import errno
import socket
import ssl
from dataclasses import dataclass

from botocore import exceptions as boto
from botocore.parsers import ResponseParserError
from urllib3.exceptions import LocationParseError

from sensordrop.core.failure import FailureScope

FILE, PROJECT = FailureScope.FILE, FailureScope.PROJECT
DESTINATION, STATION = FailureScope.DESTINATION, FailureScope.STATION


@dataclass(frozen=True, kw_only=True, slots=True)
class Rule:
    """One row of the table: what is seen, what it is called, how far it reaches, what helps.

    `codes` are S3's error codes (Amazon S3 API Reference, "Error responses", and those of other
    stores); `statuses` HTTP statuses, asked only where no rule knows the code; `exceptions` the
    library's own; `errnos` the operating system's, anywhere; `reading_errnos` those while the
    file itself is read.
    """

    error_class: str
    scope: FailureScope
    meaning: str
    hint: str
    permanent: bool = False
    odd: bool = False
    """One answer of this kind may be this one request's trouble, not that of the whole scope."""
    slow: bool = False
    """The store asks for fewer requests."""
    codes: tuple[str, ...] = ()
    code_prefixes: tuple[str, ...] = ()
    statuses: tuple[int, ...] = ()
    exceptions: tuple[type[Exception], ...] = ()
    errnos: tuple[int, ...] = ()
    reading_errnos: tuple[int, ...] = ()
    ours: str = ""
    """Where our own checks find it, in words; empty if only others report it."""


RULES: tuple[Rule, ...] = (
    # --- this machine ---
    Rule(
        error_class="descriptors",
        scope=STATION,
        meaning="this machine or process has no file descriptor left",
        hint="raise LimitNOFILE of the service, or lower max_workers",
        errnos=(errno.EMFILE, errno.ENFILE),
        reading_errnos=(errno.EMFILE, errno.ENFILE),
    ),
    Rule(
        error_class="memory",
        scope=STATION,
        meaning="this machine has no memory left for the request",
        hint="free memory, or lower max_workers",
        errnos=(errno.ENOMEM, errno.ENOBUFS),
        reading_errnos=(errno.ENOMEM, errno.ENOBUFS),
    ),
    Rule(
        error_class="disk-full",
        scope=STATION,
        meaning="a disk of this machine is full",
        hint="free space on this machine; uploads go on by themselves",
        errnos=(errno.ENOSPC, errno.EDQUOT),
        reading_errnos=(errno.ENOSPC, errno.EDQUOT),
    ),
    # --- the project: credentials, rights, the bucket ---
    Rule(
        error_class="no-credentials",
        scope=PROJECT,
        meaning="no usable credentials were found",
        hint="set aws_profile to a profile that exists, or give the service credentials; "
        "`aws configure list` shows what is found",
        exceptions=(
            boto.NoCredentialsError,
            boto.PartialCredentialsError,
            boto.ProfileNotFound,
            boto.CredentialRetrievalError,
            boto.UnknownCredentialError,
            boto.ConfigNotFound,
            boto.ConfigParseError,
            boto.InvalidConfigError,
        ),
    ),
    Rule(
        error_class="credentials-expired",
        scope=PROJECT,
        meaning="the credentials or the sign-in behind them have expired",
        hint="sign in again (`aws sso login --profile …`) or renew the token; "
        "uploads go on by themselves",
        codes=("ExpiredToken", "ExpiredTokenException", "TokenRefreshRequired", "RequestExpired"),
        exceptions=(
            boto.TokenRetrievalError,
            boto.NoAuthTokenError,
            boto.SSOError,
            boto.LoginError,
        ),
        ours="what gives out the credentials gives out some that have expired",
    ),
    Rule(
        error_class="credentials-refused",
        scope=PROJECT,
        meaning="the store does not accept these credentials",
        hint="check the access key and its secret (a key that was deleted or turned off, "
        "a secret with a character missing)",
        codes=(
            "InvalidAccessKeyId",
            "SignatureDoesNotMatch",
            "InvalidToken",
            "InvalidSecurity",
            "InvalidClientTokenId",
            "UnrecognizedClientException",
            "AuthFailure",
            "CredentialsNotSupported",
            "MissingSecurityHeader",
            "MissingAuthenticationToken",
        ),
        statuses=(401,),
    ),
    Rule(
        error_class="clock-skew",
        scope=PROJECT,
        meaning="this machine's clock and the store's are too far apart to sign requests",
        hint="set this machine's clock (`timedatectl`, NTP)",
        codes=("RequestTimeTooSkewed", "RequestInTheFuture"),
        ours="a refusal whose Date is more than 15 minutes away from this machine's time",
    ),
    Rule(
        error_class="encryption-key",
        scope=PROJECT,
        meaning="the encryption key or setting can't be used",
        hint="check sse and kms_key_id, and that these credentials may use the key "
        "(kms:GenerateDataKey, kms:Decrypt)",
        codes=(
            "InvalidEncryptionAlgorithmError",
            "KMSKeyNotAccessible",
            "ServerSideEncryptionConfigurationNotFoundError",
        ),
        code_prefixes=("KMS.",),
    ),
    Rule(
        error_class="bucket-missing",
        scope=PROJECT,
        meaning="the bucket does not exist",
        hint="check bucket_name and endpoint_url, or create the bucket",
        codes=("NoSuchBucket",),
        ours="the check before anything is sent: HEAD of the bucket answers 404",
    ),
    Rule(
        error_class="wrong-region",
        scope=PROJECT,
        meaning="the bucket lives in another region or at another address",
        hint="set aws_region to the bucket's region, or endpoint_url to its address",
        codes=(
            "PermanentRedirect",
            "TemporaryRedirect",
            "Redirect",
            "AuthorizationHeaderMalformed",
            "IllegalLocationConstraintException",
        ),
        statuses=(301, 302, 303, 307, 308),
        exceptions=(boto.InvalidRegionError, boto.UnknownRegionError, boto.NoRegionError),
    ),
    Rule(
        error_class="quota-exceeded",
        scope=PROJECT,
        meaning="the account's or the bucket's quota is used up",
        hint="raise the quota, or free space in the bucket",
        codes=("QuotaExceeded", "XMinioAdminBucketQuotaExceeded"),
    ),
    Rule(
        error_class="configuration",
        scope=PROJECT,
        meaning="the store or the library refuses a setting of this delivery",
        hint="check bucket_name, storage_class, tags, sse, endpoint_url and proxy of this delivery",
        codes=(
            "InvalidStorageClass",
            "InvalidTag",
            "InvalidBucketName",
            "InvalidLocationConstraint",
            "InvalidBucketState",
            "NotImplemented",
        ),
        statuses=(501,),
        exceptions=(
            boto.ParamValidationError,
            boto.ValidationError,
            boto.InvalidDNSNameError,
            boto.InvalidS3AddressingStyleError,
            boto.UnsupportedS3ArnError,
            boto.UnsupportedS3ConfigurationError,
            boto.UnsupportedS3AccesspointConfigurationError,
            boto.InvalidEndpointConfigurationError,
            boto.EndpointProviderError,
            boto.BaseEndpointResolverError,
            boto.InvalidProxiesConfigError,
        ),
        ours="the endpoint's address can't be read",
    ),
    Rule(
        error_class="access-denied",
        scope=PROJECT,
        odd=True,
        meaning="the credentials are known, but may not do this",
        hint="allow s3:PutObject, s3:GetObject, s3:AbortMultipartUpload on the prefix and "
        "s3:ListBucket on the bucket (without it S3 answers 403 for keys that don't exist)",
        codes=(
            "AccessDenied",
            "AccessDeniedException",
            "AllAccessDisabled",
            "AccountProblem",
            "NotSignedUp",
            "UnauthorizedAccess",
            "InvalidPayer",
            "MethodNotAllowed",
        ),
        statuses=(403, 405),
    ),
    # --- the destination: the endpoint and the way to it ---
    Rule(
        error_class="slow-down",
        scope=DESTINATION,
        odd=True,
        slow=True,
        meaning="the store asks for fewer requests",
        hint="nothing to do: uploads wait and go on by themselves; lower max_workers if it stays",
        codes=(
            "SlowDown",
            "SlowDownRead",
            "SlowDownWrite",
            "Throttling",
            "ThrottlingException",
            "ThrottledException",
            "RequestThrottled",
            "RequestThrottledException",
            "RequestLimitExceeded",
            "TooManyRequests",
            "TooManyRequestsException",
            "BandwidthLimitExceeded",
        ),
        statuses=(429, 509),
    ),
    Rule(
        error_class="store-full",
        scope=DESTINATION,
        meaning="the store itself has no space left",
        hint="free or add space in the store",
        codes=("InsufficientCapacity", "XMinioStorageFull"),
        statuses=(507,),
    ),
    Rule(
        error_class="server-error",
        scope=DESTINATION,
        odd=True,
        meaning="the store failed (a 5xx answer, or a 200 with an error inside)",
        hint="nothing to do if it passes; else look at the store's own log or status page",
        codes=("InternalError", "InternalFailure", "ServiceUnavailable", "ServerBusy"),
        statuses=(500, 502, 503, 504),
    ),
    Rule(
        error_class="proxy",
        scope=DESTINATION,
        meaning="the proxy can't be reached or refuses",
        hint="check proxy of this delivery, and HTTP_PROXY, HTTPS_PROXY and NO_PROXY of the service",
        statuses=(407,),
        exceptions=(boto.ProxyConnectionError,),
    ),
    Rule(
        error_class="tls",
        scope=DESTINATION,
        meaning="the encrypted connection can't be trusted or agreed on",
        hint="check that endpoint_url begins with the right https:// or http://, "
        "and ca_bundle for a store with a certificate of its own",
        exceptions=(boto.SSLError, ssl.SSLError),
    ),
    Rule(
        error_class="dns",
        scope=DESTINATION,
        meaning="the endpoint's name can't be resolved",
        hint="check endpoint_url for a mistyped name, and this machine's network and DNS",
        exceptions=(socket.gaierror,),
    ),
    Rule(
        error_class="connect-timeout",
        scope=DESTINATION,
        meaning="nobody answered at the endpoint's address in time",
        hint="check the network, the firewall and endpoint_url; uploads go on by themselves",
        exceptions=(boto.ConnectTimeoutError,),
    ),
    Rule(
        error_class="connect",
        scope=DESTINATION,
        meaning="the endpoint can't be reached, or refuses the connection",
        hint="check that the store is running and endpoint_url is right; "
        "uploads go on by themselves",
        exceptions=(boto.EndpointConnectionError,),
        errnos=(
            errno.ECONNREFUSED,
            errno.ENETUNREACH,
            errno.EHOSTUNREACH,
            errno.ENETDOWN,
            errno.EADDRNOTAVAIL,
        ),
    ),
    Rule(
        error_class="timeout",
        scope=DESTINATION,
        odd=True,
        meaning="the request stalled: for too long, no byte moved",
        hint="check the network and the store's load (stall_seconds says how long is waited); "
        "uploads go on by themselves",
        codes=("RequestTimeout", "RequestTimeoutException"),
        statuses=(408,),
        exceptions=(boto.ReadTimeoutError, TimeoutError),
        errnos=(errno.ETIMEDOUT,),
    ),
    Rule(
        error_class="connection-lost",
        scope=DESTINATION,
        odd=True,
        meaning="the connection broke in the middle of a request",
        hint="check the network; uploads go on by themselves",
        exceptions=(
            boto.ConnectionClosedError,
            boto.ResponseStreamingError,
            boto.IncompleteReadError,
        ),
        errnos=(errno.ECONNRESET, errno.EPIPE, errno.ECONNABORTED),
    ),
    Rule(
        error_class="bad-answer",
        scope=DESTINATION,
        odd=True,
        meaning="what answered does not speak S3 (a portal's page, a proxy, another server)",
        hint="check endpoint_url, and that no sign-in page of the network stands in between",
        exceptions=(ResponseParserError, LocationParseError),
        ours="an answer without an ETag or another thing that it must have, or of an unknown status",
    ),
    # --- the file alone ---
    Rule(
        error_class="key-too-long",
        scope=FILE,
        permanent=True,
        meaning="the key is longer than S3's 1,024 bytes",
        hint="shorten the folder or file names, or the delivery's s3_prefix",
        codes=("KeyTooLongError", "KeyTooLong"),
        ours="the key's length is checked before anything is sent",
    ),
    Rule(
        error_class="key-refused",
        scope=FILE,
        permanent=True,
        meaning="the store can't keep an object of this name",
        hint="rename the file or folder, or use a store that takes every name that S3 takes",
        codes=("InvalidURI", "InvalidObjectName", "XMinioInvalidObjectName"),
        statuses=(414,),
    ),
    Rule(
        error_class="too-large",
        scope=FILE,
        permanent=True,
        meaning="the file is larger than the store takes",
        hint="split the file; S3 takes up to 5 TiB, other stores may take less",
        codes=("EntityTooLarge", "MaxMessageLengthExceeded"),
        statuses=(413,),
        ours="the size is checked before anything is sent",
    ),
    Rule(
        error_class="conflict",
        scope=FILE,
        permanent=True,
        meaning="both the key and its conflict copy's key hold other content",
        hint="look at both objects and the file, and rename or remove what is wrong",
        ours="after both keys were looked at; nothing is overwritten",
    ),
    Rule(
        error_class="checksum-mismatch",
        scope=FILE,
        meaning="the store received or kept other bytes than were sent",
        hint="nothing to do if it happens once; else test this machine's memory and network, "
        "and the store's disks",
        codes=(
            "BadDigest",
            "InvalidDigest",
            "XAmzContentSHA256Mismatch",
            "XAmzContentChecksumMismatch",
        ),
        ours="the ETag or checksum answered is not that of the file's bytes",
    ),
    Rule(
        error_class="changed",
        scope=FILE,
        meaning="the file is no longer what it was when it was hashed",
        hint="nothing to do: it is taken again when nobody writes to it any more",
        ours="all bytes are hashed again while they are sent",
    ),
    Rule(
        error_class="busy",
        scope=FILE,
        meaning="somebody else is writing or removing the same key just now",
        hint="nothing to do: it is tried again",
        codes=("OperationAborted", "ConditionalRequestConflict", "PreconditionFailed", "NoSuchKey"),
        statuses=(409, 412),
        ours="a key that was taken is free again",
    ),
    Rule(
        error_class="parts-lost",
        scope=FILE,
        meaning="the store no longer knows the upload or one of its parts",
        hint="nothing to do: the file is sent again from its start",
        codes=("NoSuchUpload", "InvalidPart", "InvalidPartOrder"),
    ),
    Rule(
        error_class="vanished",
        scope=FILE,
        meaning="the file is no longer there",
        hint="nothing to do if it was removed on purpose; else put the card back",
        reading_errnos=(errno.ENOENT, errno.ENOTDIR),
    ),
    Rule(
        error_class="unreadable",
        scope=FILE,
        meaning="this service may not read the file",
        hint="let the service's user read the file and enter its folders",
        reading_errnos=(errno.EACCES, errno.EPERM),
    ),
    Rule(
        error_class="read-error",
        scope=FILE,
        meaning="the disk or card can't give the file's bytes",
        hint="copy the card again, and look at the disk (`dmesg`, `smartctl`)",
        reading_errnos=(
            errno.EIO,
            errno.ENXIO,
            errno.ENODEV,
            errno.EREMOTEIO,
            errno.EBADMSG,
            errno.EUCLEAN,
            errno.ENODATA,
            errno.ESTALE,
            errno.ETIMEDOUT,
            errno.ENOTCONN,
        ),
    ),
    Rule(
        error_class="rejected",
        scope=FILE,
        meaning="the store refuses this request for a reason of its own",
        hint="read the store's words in the message; "
        "once the reason is gone, `sensordrop retry` has it tried again",
        codes=(
            "InvalidRequest",
            "InvalidArgument",
            "MalformedXML",
            "EntityTooSmall",
            "IncompleteBody",
            "MissingContentLength",
            "InvalidObjectState",
        ),
        ours="every other 4xx answer",
    ),
)
"""The table. Scopes first by how far they reach; the order matters only to the reader."""
