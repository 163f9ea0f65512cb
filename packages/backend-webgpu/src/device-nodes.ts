// Whether the kernel shows a GPU at all. Without one, Dawn would start every Vulkan driver that is installed only to say on standard
// error what each of them lacks.

/** Names in /dev and /dev/dri by which Linux drivers show a GPU: DRM render nodes, NVIDIA, WSL, Tegra, Mali, Adreno, PowerVR. */
const names = /^(renderD\d+|nvidia\d+|dxg|nvhost-(gpu|ctrl)|mali\d*|kgsl-3d\d+|pvr_sync)$/;

/** What is in /dev and /dev/dri. */
function deviceNodes(): string[] {
  const { readdirSync } = process.getBuiltinModule("node:fs");
  return ["/dev", "/dev/dri"].flatMap((folder) => {
    try {
      return readdirSync(folder);
    } catch {
      return [];
    }
  });
}

/** Only Linux can be asked like this: elsewhere there may always be one. */
export function mayHaveGpu(platform: string = process.platform, nodes: () => readonly string[] = deviceNodes): boolean {
  return platform !== "linux" || nodes().some((name) => names.test(name));
}
