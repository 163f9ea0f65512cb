// The tally against its definition: distinct tokens over all sequences, each token a thing of its own.
import { expect, test } from "vitest";
import { Share, Tally } from "../../src/backend-kit/tally.ts";

/** A sequence and, beside it, its tokens as objects: a fork has the very same ones. */
interface Twin {
  readonly share: Share;
  tokens: object[];
}

test("counts shared pasts once, through any forks, rewinds, appends and closes", () => {
  let state = 7;
  const below = (limit: number) => {
    state = (Math.imul(state, 1664525) + 1013904223) >>> 0;
    return Math.floor((state / 4294967296) * limit);
  };
  const tally = new Tally();
  const twins: Twin[] = [{ share: new Share(tally), tokens: [] }];
  for (let step = 0; step < 5000; step++) {
    const twin = twins[below(twins.length)]!;
    const kind = below(10);
    if (kind < 4) twin.tokens = [...twin.tokens, ...Array.from({ length: below(9) }, () => ({}))];
    else if (kind < 7) twin.tokens = twin.tokens.slice(0, below(twin.tokens.length + 1));
    else if (kind < 9 && twins.length < 9) twins.push({ share: twin.share.fork(), tokens: twin.tokens });
    else if (twins.length > 1) {
      twin.share.close();
      twins.splice(twins.indexOf(twin), 1);
      continue;
    }
    twin.share.set(twin.tokens.length);
    expect(tally.used).toBe(new Set(twins.flatMap(({ tokens }) => tokens)).size);
  }
  for (const { share } of twins) share.close();
  expect(tally.used).toBe(0);
});
