// `npm run release`: a rehearsal, which changes nothing; with "-- version" the next version is given; with "-- publish", in a job of
// GitHub's, what is committed is published. CONTRIBUTING.md tells the steps.
import { failed, root } from "./packages/steps.ts";
import { publish } from "./release/publish.ts";
import { rehearse } from "./release/rehearse.ts";
import { version } from "./release/version.ts";

const [command = "rehearse"] = process.argv.slice(2);
try {
  if (command === "version") {
    const { version: next, changesets } = version(root);
    console.log(
      `${next}: ${changesets.length} changesets are in CHANGELOG.md. Read it, commit, and tag the commit v${next}.`,
    );
  } else if (command === "publish") {
    publish();
  } else if (command === "rehearse") {
    await rehearse();
    process.exitCode = failed() === 0 ? 0 : 1;
  } else {
    throw new Error(`"${command}" is none of rehearse, version and publish.`);
  }
} catch (error) {
  const { message, stdout = "", stderr = "" } = error as Error & { stdout?: string; stderr?: string };
  console.error([message, stdout, stderr].filter((text) => text.trim() !== "").join("\n"));
  process.exitCode = 1;
}
