// Engines by their names, as they give them in 2026.
import { expect, test } from "vitest";
import { compilesInFront, sleeps } from "../src/engines.ts";

const mac = "Mozilla/5.0 (Macintosh; Intel Mac OS X 10_15_7)";
test.each([
  ["Chrome", `${mac} AppleWebKit/537.36 (KHTML, like Gecko) Chrome/150.0.0.0 Safari/537.36`, false, false],
  ["Edge", `${mac} AppleWebKit/537.36 (KHTML, like Gecko) Chrome/150.0.0.0 Safari/537.36 Edg/150.0.0.0`, false, false],
  ["Node", "Node.js/24", false, false],
  ["Firefox", "Mozilla/5.0 (Macintosh; Intel Mac OS X 10.15; rv:152.0) Gecko/20100101 Firefox/152.0", true, true],
  ["Safari", `${mac} AppleWebKit/605.1.15 (KHTML, like Gecko) Version/26.4 Safari/605.1.15`, true, false],
  [
    "Chrome on an iPhone, which is WebKit",
    "Mozilla/5.0 (iPhone; CPU iPhone OS 26_4 like Mac OS X) AppleWebKit/605.1.15 (KHTML, like Gecko) CriOS/150.0.0.0 Mobile/15E148 Safari/604.1",
    true,
    false,
  ],
  ["Deno", "Deno/2.8.0", true, false],
])("%s", (_, userAgent, inFront, sleepy) => {
  expect([compilesInFront(userAgent), sleeps(userAgent)]).toEqual([inFront, sleepy]);
});
