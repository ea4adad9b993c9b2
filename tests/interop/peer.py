"""The Python side of tests/interop.rs: nats-py listens, or publishes, by the command line."""

# peer.py URL listen SUBJECT COUNT          prints "ready", then one JSON object for each message
# peer.py URL publish SUBJECT COUNT PREFIX  publishes "PREFIX 1", "PREFIX 2", ...; every second one has a header
# peer.py URL answer SUBJECT COUNT PREFIX   prints "ready", then answers COUNT requests with PREFIX and their body
import asyncio
import json
import sys

import nats

PATIENCE_SECONDS = 60


async def main(url, verb, subject, count, prefix=""):
    client = await nats.connect(url, allow_reconnect=False)
    count = int(count)
    if verb == "publish":
        for number in range(1, count + 1):
            headers = {"Peer": "nats-py"} if number % 2 == 0 else None
            await client.publish(subject, f"{prefix} {number}".encode(), headers=headers)
    else:
        subscription = await client.subscribe(subject)
        await client.flush()
        print("ready", flush=True)
        for _ in range(count):
            message = await subscription.next_msg(timeout=PATIENCE_SECONDS)
            if verb == "answer":
                await message.respond(prefix.encode() + message.data)
            seen = {
                "subject": message.subject,
                "body": message.data.hex(),
                "headers": dict(message.headers or {}),
            }
            print(json.dumps(seen), flush=True)
    await client.drain()


asyncio.run(main(*sys.argv[1:]))
