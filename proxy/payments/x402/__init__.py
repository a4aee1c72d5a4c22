"""x402: USDC by a signed authorization (EIP-3009) that comes with the request."""
