"""Annotation formats, one small module each."""
