"""Who has anything that could remove a file at all."""

from __future__ import annotations

import pytest

from sensordrop.adapters.taking import FolderTaking
from sensordrop.composition.deliveries import make_delivery
from sensordrop.config.models import DeliveryConfig
from sensordrop.core.taking import wish_of


@pytest.mark.parametrize(
    ("wish", "by_hand", "can_take"),
    [("keep", False, False), ("delete", False, True), ("delete", True, False)],
)
def test_only_a_daemon_whose_delivery_asks_for_it_has_anything_that_could_remove_a_file(
    tmp_path, wish, by_hand, can_take
):
    config = DeliveryConfig(
        name="n", local_directory=str(tmp_path), bucket_name="bucket", after_verified=wish
    )
    made = make_delivery(config, 1, by_hand=by_hand)
    assert (made.settings.taking is not None) is can_take


def test_nothing_that_removes_files_can_be_made_for_who_keeps_them(tmp_path):
    with pytest.raises(AssertionError):
        FolderTaking(str(tmp_path), wish_of("keep"))
