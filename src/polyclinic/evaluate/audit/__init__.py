"""Attacks on what leaves a site, as plain functions: they are told what an attacker would see."""
