"""One outside thing per module, each behind an interface of `sensordrop.ports`."""
