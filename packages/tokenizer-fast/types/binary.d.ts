// What a bundler makes of an imported binary: its address (a file beside the bundle), or its bytes (inside the bundle).
declare const binary: string | Uint8Array<ArrayBuffer>;
export default binary;
