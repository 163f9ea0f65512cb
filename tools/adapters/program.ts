// The suite as a program for Node and Deno: options of the backend and a choice of checks as JSON in, a report as JSON out.
import "../patient-dawn.ts";
import { suite } from "./suite.ts";

const [given = "{}"] = process.argv.slice(2);
const { options, only } = JSON.parse(given);
console.log(JSON.stringify(await suite(options, undefined, only)));
process.exit(0); // Dawn keeps Node alive
