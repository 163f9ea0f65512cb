// A lock between processes: a file that only one can create. Whoever dies leaves it behind, and the next one sees that by the
// process id on the same machine, or by the time since its owner last touched it.
import { randomUUID } from "node:crypto";
import { hostname } from "node:os";
import { dirname } from "node:path";
import { pause } from "../hub/connection.ts";
import { downloadAborted } from "../hub/transport.ts";
import { codeOf, type Disk, ifThere } from "./disk.ts";

interface Owner {
  readonly pid: number;
  readonly host: string;
  readonly nonce: string;
}

/** An owner that has not touched its lock for this long is taken for dead, in ms; it does so far more often. */
const SILENCE = 60_000;
const BEAT = 5_000;
const POLL = 50;

/** Locks of this process: a file with our process id and another nonce is of a dead namesake. */
const ours = new Set<string>();

export interface Lock {
  /** Whether it is still ours: one that was asleep too long may have lost it. */
  held(): Promise<boolean>;
  release(): Promise<void>;
}

/** Wait for the lock at `path` and take it. @throws DogeError "aborted". */
export async function takeLock(fs: Disk, path: string, signal?: AbortSignal): Promise<Lock> {
  await fs.mkdir(dirname(path), { recursive: true });
  const nonce = randomUUID();
  const me: Owner = { pid: process.pid, host: hostname(), nonce };
  for (;;) {
    if (signal?.aborted) throw downloadAborted(signal);
    if (await create(fs, path, me)) return hold(fs, path, nonce);
    const seen = await dead(fs, path);
    if (seen !== null) await clear(fs, path, seen);
    else await pause(POLL, signal).catch(() => undefined);
  }
}

async function create(fs: Disk, path: string, owner: Owner): Promise<boolean> {
  let handle: Awaited<ReturnType<Disk["open"]>>;
  try {
    handle = await fs.open(path, "wx");
  } catch (error) {
    if (codeOf(error) === "EEXIST") return false;
    throw error;
  }
  ours.add(owner.nonce);
  try {
    await handle.writeFile(JSON.stringify(owner));
  } catch (error) {
    ours.delete(owner.nonce);
    await fs.rm(path, { force: true }).catch(() => undefined);
    throw error;
  } finally {
    await handle.close();
  }
  return true;
}

function hold(fs: Disk, path: string, nonce: string): Lock {
  const beat = setInterval(() => {
    const now = new Date();
    void fs.utimes(path, now, now).catch(() => undefined);
  }, BEAT);
  beat.unref();
  const held = async () => (await content(fs, path))?.includes(nonce) ?? false;
  return {
    held,
    async release() {
      clearInterval(beat);
      ours.delete(nonce);
      // What cannot be removed now is seen to be dead later.
      if (await held().catch(() => false)) await fs.rm(path, { force: true }).catch(() => undefined);
    },
  };
}

const content = async (fs: Disk, path: string): Promise<string | undefined> => ifThere(fs.readFile(path, "utf8"));

/** What stands in the lock when its owner is dead, else null. */
async function dead(fs: Disk, path: string): Promise<string | null> {
  const text = await content(fs, path);
  const stats = await ifThere(fs.stat(path));
  if (text === undefined || stats === undefined) return null;
  if (Date.now() - stats.mtimeMs > SILENCE) return text;
  let owner: Partial<Owner>;
  try {
    owner = JSON.parse(text) as Owner;
  } catch {
    // Created and not yet written to, or its owner died in between; then silence will tell, after a moment.
    return Date.now() - stats.mtimeMs > 2_000 ? text : null;
  }
  if (owner.host !== hostname() || typeof owner.pid !== "number") return null;
  if (owner.pid === process.pid) return ours.has(owner.nonce ?? "") ? null : text;
  try {
    process.kill(owner.pid, 0);
    return null;
  } catch (error) {
    return codeOf(error) === "ESRCH" ? text : null;
  }
}

/** Remove the dead lock that read `seen`. One waiter at a time: another one's fresh lock must not be taken for the dead one. */
async function clear(fs: Disk, path: string, seen: string): Promise<void> {
  const guard = `${path}.clearing`;
  const handle = await fs.open(guard, "wx").catch(() => null);
  if (handle === null) {
    const stats = await ifThere(fs.stat(guard));
    if (stats !== undefined && Date.now() - stats.mtimeMs > 10_000) await fs.rm(guard, { force: true });
    await pause(POLL);
    return;
  }
  try {
    await handle.close();
    if ((await content(fs, path)) === seen) await fs.rm(path, { force: true });
  } finally {
    await fs.rm(guard, { force: true });
  }
}
