// A model of a hub as people name it: "owner/name", or the address of its page as it is copied from a browser.

export interface HubName {
  readonly name: string;
  readonly revision?: string | undefined;
  readonly endpoint?: string | undefined;
}

/** Hubs that need no address. */
const USUAL = ["huggingface.co", "hf.co"];

/** What is no address of a model's page comes back as it is: the hub's client says what is wrong with it. */
export function hubName(text: string): HubName {
  const address = USUAL.some((host) => text.startsWith(`${host}/`)) ? `https://${text}` : text;
  if (!/^https?:/.test(address) || !URL.canParse(address)) return { name: text };
  const { origin, host, pathname } = new URL(address);
  const [owner, model, kind, revision] = pathname.split("/").slice(1);
  if (!owner || !model) return { name: text };
  return {
    name: `${owner}/${model}`,
    revision: kind === "tree" && revision ? decoded(revision) : undefined,
    endpoint: USUAL.includes(host) ? undefined : origin,
  };
}

/** A part of an address in words; as it stands where its escapes are none. */
function decoded(part: string): string {
  try {
    return decodeURIComponent(part);
  } catch {
    return part;
  }
}
