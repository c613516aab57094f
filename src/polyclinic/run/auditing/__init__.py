"""`polyclinic audit`: a site attacks the updates of its own training."""
