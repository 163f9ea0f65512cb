// The browser of this machine, or the words for a skipped test's name.
import { findBrowser } from "../../../../tools/packages/page.ts";

let path: string | undefined;
let absence = "";
try {
  path = findBrowser();
} catch (error) {
  absence = ` (skipped: ${(error as Error).message})`;
}
export const browser = path;
/** For a test's name: why it is skipped. */
export const skipped = absence;
