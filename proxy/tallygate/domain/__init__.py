"""Pure values and rules: no socket, clock, log or `async def`. Everything else imports from here, it imports nothing of ours."""
