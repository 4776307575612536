// Says of each {secret, headers, body} on standard input whether the library of Standard Webhooks
// accepts it. Packages are those of package.json, which are where FAIRSALE_NODE says.
const { createRequire } = require("node:module");
const { Webhook } = createRequire(process.env.FAIRSALE_NODE + "/")("standardwebhooks");

let text = "";
process.stdin.on("data", (chunk) => (text += chunk));
process.stdin.on("end", () => {
  const verdicts = JSON.parse(text).map(({ secret, headers, body }) => {
    try {
      new Webhook(secret).verify(body, headers);
      return true;
    } catch {
      return false;
    }
  });
  process.stdout.write(JSON.stringify(verdicts));
});
