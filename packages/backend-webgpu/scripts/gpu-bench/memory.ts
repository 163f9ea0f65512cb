// What the memory of a GPU gives.

/** Bytes per second of a device by its name, where they are known: on the H200 what a read of everything reached, of the H100 with HBM3 the
 *  data sheet's. Undefined for any other, other boards of the H100's name too. */
export function memoryOf(device: string): number | undefined {
  // Dawn writes names in small letters, with hyphens.
  if (/\bh200\b/i.test(device)) return 4.3e12;
  return /\bh100[ -]80gb[ -]hbm3\b/i.test(device) ? 3.35e12 : undefined;
}
