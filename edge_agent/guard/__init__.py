"""The no-internet rule: what may pass, as a policy and as a table of nftables; what breaks it."""
