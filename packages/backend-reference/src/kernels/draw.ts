// draw: from logits to the next id. Its definition is core's, which the draw of every device follows; so does this one.
export { draw } from "@doge-lm/core";
