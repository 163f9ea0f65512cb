// What the bundler makes of imports and globals that TypeScript does not know.
declare module "*?url" {
  const address: string;
  export default address;
}
declare module "*?url&no-inline" {
  const address: string;
  export default address;
}
