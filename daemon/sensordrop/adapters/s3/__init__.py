"""S3 as a destination, on boto3. Only this room speaks to S3."""

from sensordrop.adapters.s3.capabilities import CapabilityBook
from sensordrop.adapters.s3.client import S3Settings
from sensordrop.adapters.s3.destination import S3Destination

__all__ = ["CapabilityBook", "S3Destination", "S3Settings"]
