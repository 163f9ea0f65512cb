// One tab at a time answers in a conversation, by a lock of the browser's: it is free again when its tab is gone, however that came.
// Where there are no such locks (a host without https) tabs answer beside each other, and their answers become versions.

export interface TurnTaking {
  /** The right to answer in a conversation. @returns what gives it back; null while another tab has it */
  take(id: string): Promise<(() => void) | null>;
  /** Follow whether another tab answers in this conversation, and in no other one. */
  watch(id: string): void;
  /** Told when that changes. */
  onElsewhere: (busy: boolean) => void;
}

/** Milliseconds between two looks, while another tab answers. */
const PAUSE = 250;

const nameOf = (id: string): string => `doge-answer-${id}`;

export function turnTaking(locks: Pick<LockManager, "request" | "query"> | undefined): TurnTaking {
  const own = new Set<string>();
  let watched = "";
  let busy = false;
  let timer: ReturnType<typeof setTimeout> | undefined;
  const tell = (now: boolean) => {
    if (now === busy) return;
    busy = now;
    turns.onElsewhere(now);
  };
  const look = async () => {
    clearTimeout(timer);
    const id = watched;
    const { held = [] } = (await locks?.query().catch(() => undefined)) ?? {};
    if (id !== watched) return;
    const taken = !own.has(id) && held.some(({ name }) => name === nameOf(id));
    clearTimeout(timer);
    if (taken) timer = setTimeout(() => void look(), PAUSE);
    tell(taken);
  };
  const turns: TurnTaking = {
    take: async (id) => {
      if (locks === undefined) return () => {};
      const giveBack = await new Promise<(() => void) | null>((resolve) => {
        locks
          .request(nameOf(id), { ifAvailable: true }, (lock) => {
            if (lock === null) return resolve(null);
            own.add(id);
            return new Promise<void>((done) => {
              resolve(() => {
                own.delete(id);
                done();
              });
            });
          })
          // Refused altogether, as in a sandboxed frame: as where there are none.
          .catch(() => resolve(() => {}));
      });
      if (giveBack === null && id === watched) void look();
      return giveBack;
    },
    watch: (id) => {
      if (id !== watched) tell(false);
      watched = id;
      void look();
    },
    onElsewhere: () => {},
  };
  return turns;
}
