"""Sweeps: planned, frozen, carried out and summed up."""
