"""What `status` says of a delivery between a daemon's start and its first look at the folder."""

from __future__ import annotations

from test_ledger import binding, register

from sensordrop.control.told import status_told
from sensordrop.ports.records import DeliveryStatus


def test_what_the_daemon_before_said_of_a_folder_is_not_said_again(ledger):
    def states() -> dict[str, str]:
        return {d.name: status_told(d)["state"] for d in ledger.status("hut")}

    north, south = binding("north"), binding("south", s3_prefix="C2")
    found = register(ledger, north, south)
    assert states() == {"north": "sweeping", "south": "sweeping"}, "nobody has looked yet"
    ledger.publish(
        [
            DeliveryStatus(
                delivery_id=found.delivery_ids[name], state=state, reason=why, settling=0
            )
            for name, state, why in (("north", "watching", None), ("south", "paused", "by bob"))
        ]
    )
    assert states() == {"north": "watching", "south": "paused"}
    register(ledger, north, south)
    assert states() == {"north": "sweeping", "south": "paused"}
