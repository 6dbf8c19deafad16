"""What the daemon can be asked and told from outside, over a unix socket."""
