// How --help is laid out: names on the left, a few long ones on a line of their own, so that descriptions fit beside the rest
// in a terminal of 80 columns.
import { Help, type HelpConfiguration } from "commander";

const widest = 30;

export const helpLayout: HelpConfiguration = {
  padWidth: (command, helper) => Math.min(widest, Help.prototype.padWidth.call(helper, command, helper)),
  formatItem(term, width, description, helper) {
    const item = (name: string): string => Help.prototype.formatItem.call(helper, name, width, description, helper);
    return helper.displayWidth(term) <= width ? item(term) : `  ${term}\n${item("")}`;
  },
};
