"""Certificates, and recordings of real chips."""
