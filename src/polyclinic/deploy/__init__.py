"""The federation across machines, on Flower: a server, and sites behind their firewalls."""
