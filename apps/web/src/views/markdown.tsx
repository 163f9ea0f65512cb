// Markdown as elements. Text reaches the page as text alone, never as HTML.
import { Component, cloneElement, h, type VNode } from "preact";
import { useEffect, useMemo, useState } from "preact/hooks";
import type { Element, Node } from "../markdown/parse.ts";
import { Copy } from "./copy.tsx";

type Parse = typeof import("../markdown/parse.ts").parse;

// Nearly half of the page's program, which no first drawing needs: it comes beside it.
let parser: Parse | null = null;
const coming: Promise<Parse | null> = import("../markdown/parse.ts").then(
  ({ parse }) => {
    parser = parse;
    return parse;
  },
  () => null, // the site is out of reach: what is written can be read all the same
);

/** What reads Markdown, or null while it has not come. */
export function useParse(): Parse | null {
  const [parse, set] = useState<Parse | null>(() => parser);
  useEffect(() => {
    if (parse === null) void coming.then((come) => set(() => come));
  }, []);
  return parse;
}

export function Markdown({ text, writing = false }: { readonly text: string; readonly writing?: boolean }) {
  const parse = useParse();
  const blocks = useMemo(() => parse?.(text), [parse, text]);
  const style = writing ? "markdown writing" : "markdown";
  if (blocks === undefined)
    return (
      <div class={`${style} unread`} dir="auto">
        {text}
      </div>
    );
  return (
    <div class={style}>
      {blocks.map(({ source, node }, index) => (
        <Block key={index} source={source} node={node} />
      ))}
    </div>
  );
}

/** A block whose text has not changed is not drawn again while the ones behind it grow. */
class Block extends Component<{ readonly source: string; readonly node: Node }> {
  override shouldComponentUpdate({ source }: { readonly source: string }): boolean {
    return source !== this.props.source;
  }
  override render() {
    const { node } = this.props;
    const drawn = draw(node, 0);
    // Words are written from the side that their first letters are written from, code from the left.
    const code = typeof node === "string" || node.tag === "pre";
    return code ? drawn : cloneElement(drawn as VNode, { dir: "auto" } as object);
  }
}

function draw(node: Node, key: number): VNode | string {
  if (typeof node === "string") return node;
  const children = node.children.map(draw);
  switch (node.tag) {
    case "a":
      return (
        <a key={key} href={node.href ?? "#"} target="_blank" rel="noopener noreferrer nofollow">
          {children}
        </a>
      );
    case "pre":
      return (
        <div key={key} class="code" dir="ltr">
          <div class="code-head">
            <span>{node.language}</span>
            <Copy text={textOf(node)} what="code" />
          </div>
          {/* Long lines scroll, also by keyboard. */}
          {/* biome-ignore lint/a11y/noNoninteractiveTabindex: see above */}
          <pre tabIndex={0}>{children}</pre>
        </div>
      );
    case "table":
      return (
        // biome-ignore lint/a11y/noNoninteractiveTabindex: wide tables scroll, also by keyboard.
        <section key={key} class="scroll" tabIndex={0} aria-label="Table">
          <table>{children}</table>
        </section>
      );
    case "ol":
      return (
        <ol key={key} start={node.start}>
          {children}
        </ol>
      );
    case "li":
      return <li key={key}>{node.checked === undefined ? children : [node.checked ? "☑ " : "☐ ", ...children]}</li>;
    case "th":
    case "td":
      return h(node.tag, { key, style: alignment(node) } as object, children);
    default:
      return h(node.tag, { key } as object, children);
  }
}

const textOf = (node: Node): string => (typeof node === "string" ? node : node.children.map(textOf).join(""));

const alignment = ({ align }: Element) => (align === undefined ? undefined : { textAlign: align });
