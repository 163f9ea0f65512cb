// What engines do differently and WebGPU has no word for: known by the name of the engine.

const own = (globalThis.navigator as Navigator | undefined)?.userAgent ?? "";

/** Firefox looks ten times a second for what the GPU has done, and at every submit. */
export const sleeps = (userAgent = own): boolean => /\bFirefox\//.test(userAgent);

/** Pipelines are created one after the other and whatever is submitted waits for them, however asynchronous the method is called: wgpu, in
 *  Firefox and Deno, has no other way (gfx-rs/wgpu#3794), and WebKit had none before September 2026 (WebKit/WebKit#73881). */
export const compilesInFront = (userAgent = own): boolean =>
  sleeps(userAgent) ||
  /\bDeno\//.test(userAgent) ||
  (/\bAppleWebKit\//.test(userAgent) && !/\bChrome\//.test(userAgent));
