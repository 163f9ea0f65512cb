// choose(): the first that opens; absence and breakage told apart.
import { describe, expect, it } from "vitest";
import type { Provider } from "../../src/index.ts";
import { choose, isDogeError } from "../../src/index.ts";
import { mockProvider } from "./mock.ts";

const absent: Provider = {
  name: "absent",
  probe: async () => ({ available: false, code: "unavailable", why: "There is no such device." }),
  open: () => Promise.reject(new Error("open was called")),
};
const broken: Provider = { ...mockProvider(), name: "broken", open: () => Promise.reject(new Error("wrong answer")) };

describe("choose", () => {
  it("takes the first that opens and says why not the others, faults included", async () => {
    const { backend, tried } = await choose([absent, broken, mockProvider(), absent]);
    expect(backend.name).toBe("mock");
    expect(tried.map(({ name, availability }) => [name, availability.available])).toEqual([
      ["absent", false],
      ["broken", false],
      ["mock", true],
    ]);
    expect(tried[0]!.error).toBeUndefined();
    expect(tried[1]!.availability).toMatchObject({ code: "broken", why: expect.stringContaining("wrong answer") });
    expect(tried[1]!.error).toBeInstanceOf(Error);
  });

  it("rejects with every reason when none opens", async () => {
    const error = await choose([absent, broken]).catch((caught) => caught);
    expect(isDogeError(error, "unavailable")).toBe(true);
    expect(error.message).toContain(
      "absent: There is no such device. broken: It should have worked and failed: wrong answer",
    );
    expect(error.cause.message).toBe("wrong answer");
    await expect(choose([])).rejects.toThrow("No backend was given");
  });

  it("stops at an abort", async () => {
    await expect(choose([mockProvider()], AbortSignal.abort())).rejects.toSatisfy((error) =>
      isDogeError(error, "aborted"),
    );
  });
});
