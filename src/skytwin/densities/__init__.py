"""How dense a cloud of vectors is at a place: masked autoregressive flows."""
