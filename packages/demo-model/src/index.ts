/** Where the demo model's files stand: the URL of the folder with its config.json, tokenizer and weights. */

/** A folder URL (it ends with a slash), so that `new URL("config.json", demoModel)` is the file's address. */
export const demoModel: URL = new URL("../", import.meta.url);
