// The suite in a page: it posts its report. Fixtures and the choice of checks come from the server.
import { filesFrom } from "../../packages/core/src/loading/files.ts";
import { suite } from "./suite.ts";

const post = (body: string) => fetch("/answer/", { method: "POST", body });
addEventListener("error", ({ message }) => void post(`error: ${message}`));
addEventListener("unhandledrejection", ({ reason }) => void post(`error: ${reason}`));

const { options, only } = await (await fetch("/choice.json")).json();
const fixtures = async (name: string) => {
  const names: string[] = await (await fetch(`/fixtures/${name}/`)).json();
  const bytes = async (file: string) => new Uint8Array(await (await fetch(`/fixtures/${name}/${file}`)).arrayBuffer());
  return filesFrom(Object.fromEntries(await Promise.all(names.map(async (file) => [file, await bytes(file)]))), name);
};
await post(JSON.stringify(await suite(options, fixtures, only)));
