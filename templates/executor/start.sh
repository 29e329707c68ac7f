#!/usr/bin/env bash
# What an executor's image starts. Its exit status tells whether the work was done.
set -e
cd /app
exec python3 start.py
