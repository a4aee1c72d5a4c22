"""What a panel must show. Each module measures one thing: `measure(plan, seed) -> list[Finding]`."""
