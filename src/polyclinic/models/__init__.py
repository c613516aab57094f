"""Networks: the encoder, the heads that stay at the sites, masked image modelling."""
