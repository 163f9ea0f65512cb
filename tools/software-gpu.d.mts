/** Variables with which a new process finds the software GPU, or why there is none. */
export function softwareGpu():
  | { readonly env: Readonly<Record<string, string>>; readonly why?: undefined }
  | { readonly why: string; readonly env?: undefined };
