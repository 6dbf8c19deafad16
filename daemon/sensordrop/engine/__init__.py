"""Threads, time and order: finds files, gets them stored, keeps the ledger tidy."""
