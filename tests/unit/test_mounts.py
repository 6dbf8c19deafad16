"""Mount tables as kernels wrote them, and what is read out of them."""

from __future__ import annotations

import pytest

from sensordrop.adapters.mounts import is_remote, mount_of, mounts_concerning, parse_mountinfo

# A station: root on ext4, a card in its reader, shares below /srv, and odd corners.
TABLE = rb"""22 1 8:1 / / rw,relatime shared:1 - ext4 /dev/sda1 rw,errors=remount-ro
23 22 0:21 / /proc rw,nosuid shared:12 - proc proc rw
24 22 0:22 / /sys rw - sysfs sysfs rw
40 22 8:17 / /media/AUDIO\040MOTH rw shared:30 master:2 - vfat /dev/sdb1 rw,uid=1000
41 22 0:50 / /srv/nfs rw - nfs4 nas:/volume\0401 rw,vers=4.2
42 41 0:51 / /srv/nfs/cards rw - cifs //nas/cards rw
43 22 0:52 / /srv/ssh rw - fuse.sshfs me@host:/data rw
44 22 8:33 / /srv/ntfs rw - fuseblk /dev/sdc1 rw
45 22 0:53 / /drop/a rw - tmpfs none rw
46 22 0:54 / /drop rw - xfs /dev/sdd1 rw
47 46 0:55 / /drop/b rw - btrfs /dev/sde1 rw
48 47 0:56 /sub /drop/b rw - nfs nas:/b rw
49 22 0:57 / /mnt/odd\134name\011\012 rw - 9p share rw
"""
MOUNTS = parse_mountinfo(TABLE)


@pytest.mark.parametrize(
    ("path", "filesystem"),
    [
        (b"/", "ext4"),
        (b"/home/drop", "ext4"),
        (b"/media/AUDIO MOTH", "vfat"),
        (b"/media/AUDIO MOTH/DCIM", "vfat"),
        (b"/media/AUDIO MOTH2", "ext4"),
        (b"/srv/nfs/x", "nfs4"),
        (b"/srv/nfs/cards/950349", "cifs"),
        (b"/srv/ssh", "fuse.sshfs"),
        (b"/srv/ntfs/drop", "fuseblk"),
        (b"/drop/a/x", "xfs"),  # the tmpfs at /drop/a is hidden under what came over /drop
        (b"/drop/b/x", "nfs"),  # of two at one place the later one counts
        (b"/mnt/odd\\name\t\n/x", "9p"),
    ],
)
def test_the_mount_that_a_path_lies_on(path, filesystem):
    mount = mount_of(path, MOUNTS)

    assert mount is not None
    assert mount.filesystem == filesystem


def test_a_table_without_a_root_or_with_a_ring_gives_no_wrong_answer():
    assert mount_of(b"/x", parse_mountinfo(b"")) is None
    assert mount_of(b"/x", parse_mountinfo(b"5 4 0:1 / /y rw - tmpfs none rw\n")) is None
    ring = parse_mountinfo(b"1 1 0:1 / / rw - rootfs none rw\n")
    assert mount_of(b"/x", ring) == ring[0]


def points(path):
    return [mount.mount_point for mount in mounts_concerning(path, MOUNTS)]


def test_mounts_on_below_and_under_a_folder_concern_it_and_no_others():
    assert points(b"/srv/nfs") == [b"/srv/nfs", b"/srv/nfs", b"/srv/nfs/cards"]
    assert points(b"/srv/nfs/cards") == [b"/srv/nfs/cards", b"/srv/nfs/cards"]
    assert points(b"/media/AUDIO MOTH/DCIM") == [b"/media/AUDIO MOTH"]
    assert points(b"/media/AUDIO") == [b"/"]


def test_a_remount_with_other_options_changes_nothing_that_matters():
    again = parse_mountinfo(TABLE.replace(b"errors=remount-ro", b"errors=continue"))

    assert mounts_concerning(b"/home/drop", again) == mounts_concerning(b"/home/drop", MOUNTS)


@pytest.mark.parametrize("kind", ["nfs", "nfs4", "cifs", "smb3", "9p", "fuse.sshfs", "fuse.s3fs",
                                  "fuse.rclone", "fuse", "ceph", "vboxsf", "virtiofs"])  # fmt: skip
def test_what_others_write_to_behind_the_kernels_back_is_polled(kind):
    assert is_remote(kind)


@pytest.mark.parametrize("kind", ["ext4", "xfs", "btrfs", "zfs", "vfat", "exfat", "ntfs3", "tmpfs",
                                  "overlay", "fuseblk", "fuse.ntfs-3g", ""])  # fmt: skip
def test_what_only_this_kernel_writes_to_is_watched(kind):
    assert not is_remote(kind)
