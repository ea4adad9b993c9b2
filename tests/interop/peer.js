// The JavaScript side of tests/interop.rs: npm's nats listens, or publishes, by the command line.
//
// peer.js URL listen SUBJECT COUNT          prints "ready", then one JSON object for each message
// peer.js URL publish SUBJECT COUNT PREFIX  publishes "PREFIX 1", "PREFIX 2", ...; every second one has a header
// peer.js URL answer SUBJECT COUNT PREFIX   prints "ready", then answers COUNT requests with PREFIX and their body
"use strict";

const { connect, headers } = require("nats");

async function main(url, verb, subject, count, prefix = "") {
  const client = await connect({ servers: url, reconnect: false });
  if (verb === "publish") {
    for (let number = 1; number <= Number(count); number += 1) {
      const options = {};
      if (number % 2 === 0) {
        options.headers = headers();
        options.headers.set("Peer", "nats.js");
      }
      client.publish(subject, Buffer.from(`${prefix} ${number}`), options);
    }
  } else {
    const subscription = client.subscribe(subject, { max: Number(count) });
    await client.flush();
    console.log("ready");
    for await (const message of subscription) {
      if (verb === "answer") {
        message.respond(Buffer.concat([Buffer.from(prefix), message.data]));
      }
      const seen = {};
      for (const [key, values] of message.headers ?? []) {
        seen[key] = values.join(",");
      }
      console.log(JSON.stringify({
        subject: message.subject,
        body: Buffer.from(message.data).toString("hex"),
        headers: seen,
      }));
    }
  }
  await client.drain();
}

main(...process.argv.slice(2)).catch((error) => {
  console.error(error);
  process.exit(1);
});
