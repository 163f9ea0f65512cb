// The noise of S3 against values worked out by hand of the published hash and with an exact logarithm.
import { describe, expect, it } from "vitest";
import { gumbel, noise, pcg3d } from "../../src/sampling/noise.ts";

describe("noise", () => {
  it("hashes as pcg3d of Jarzynski and Olano does", () => {
    // First word, from an implementation in unbounded integers reduced modulo 2^32.
    const vectors: [number, number, number, number][] = [
      [0, 0, 0, 2611992518],
      [1, 0, 0, 2717828630],
      [0, 1, 0, 450040476],
      [0, 0, 1, 2136848594],
      [32767, 2047, 42, 3161115891],
      [128255, 8191, 4294967295, 1889596801],
      [5, 2147483647, 123456789, 4196924376],
    ];
    for (const [x, y, z, hash] of vectors) expect(pcg3d(x, y, z)).toBe(hash);
  });

  it("is the Gumbel quantile of (hash + 1/2) / 2^32, in the series and outside of it", () => {
    const vectors: [number, number][] = [
      [0, 22.87385695841999],
      [1, 21.775244669635462],
      [1000, 15.272454507420921],
      [268435455, 2.740493008434422],
      [268435456, 2.7404930045862907],
      [2147483648, 0.36651292024576076],
      [4294967295, -3.129994640884816],
    ];
    // The series stops at v^4 / 5: at v = 1/16 what it leaves out is v^5 / 6 of E, 1.6e-7.
    for (const [hash, expected] of vectors) expect(Math.abs(gumbel(hash) - expected)).toBeLessThan(2e-7);
  });

  it("depends on the id, the position and the seed, and not on their sum", () => {
    expect(noise(7, 3, 11)).toBe(noise(7, 3, 11));
    expect(noise(7, 3, 12)).not.toBe(noise(7, 4, 11));
    expect(noise(8, 3, 11)).not.toBe(noise(7, 4, 11));
  });

  it("has the mean and the variance of a Gumbel variable", () => {
    const count = 200_000;
    let sum = 0;
    let squares = 0;
    for (let index = 0; index < count; index++) {
      const g = noise(index % 1000, Math.floor(index / 1000), 99);
      sum += g;
      squares += g * g;
    }
    const mean = sum / count;
    // Euler's constant and pi^2 / 6; five standard errors of each.
    expect(Math.abs(mean - 0.5772156649)).toBeLessThan((5 * 1.2825) / Math.sqrt(count));
    expect(Math.abs(squares / count - mean * mean - Math.PI ** 2 / 6)).toBeLessThan((5 * 3.45) / Math.sqrt(count));
  });
});
