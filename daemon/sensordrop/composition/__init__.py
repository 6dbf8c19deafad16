"""Joins the rooms: builds adapters from the configuration and hands them to the engine."""
