// The version of this package, for what is kept between runs. `npm run release:version` writes it; a test compares it.
export const version = "0.1.0";
