// One tab at a time answers in a conversation, by a lock of the browser's: it is free again when its tab is gone, however that came.
// Where they are refused tabs answer beside each other, and their answers become versions; so does a question that was asked behind another
// tab's, before its answer came: it stands beside that answer. Nothing is lost by it. Where the page works (https, this machine) there are locks.

export interface TurnTaking {
  /** The right to answer in a conversation. @returns what gives it back; null while another tab has it */
  take(id: string): Promise<(() => void) | null>;
  /** Follow whether another tab answers in this conversation, and in no other one. */
  watch(id: string): void;
  /** Told when that changes. */
  onElsewhere: (busy: boolean) => void;
}

/** Milliseconds to wait for the right: another tab whose answer is seen here may be about to give it back. */
const PATIENCE = 200;
/** Milliseconds between two looks, while another tab answers. */
const PAUSE = 100;

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
  const ask = (id: string, options: LockOptions): Promise<(() => void) | null> =>
    new Promise((resolve) => {
      if (locks === undefined) return resolve(() => {});
      let granted = false;
      locks
        .request(nameOf(id), options, (lock) => {
          if (lock === null) return resolve(null);
          granted = true;
          own.add(id);
          return new Promise<void>((done) => resolve(done));
        })
        // It is held until then, also when it was given back.
        .then(() => granted && own.delete(id))
        // Refused altogether, as in a sandboxed frame: as where there are none.
        .catch(() => resolve(options.signal?.aborted ? null : () => {}));
    });
  const turns: TurnTaking = {
    take: async (id) => {
      // A busy machine may take long to say that nobody has it: only what another tab has is waited for with an end.
      const giveBack =
        (await ask(id, { ifAvailable: true })) ?? (await ask(id, { signal: AbortSignal.timeout(PATIENCE) }));
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
