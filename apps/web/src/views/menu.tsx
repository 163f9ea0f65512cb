// A button that opens a menu, by the ARIA Authoring Practices: arrow keys and first letters move in it, Escape and Tab leave it.
import { useEffect, useLayoutEffect, useRef, useState } from "preact/hooks";
import { Icon, type IconName } from "./icons.tsx";

export interface MenuItem {
  readonly icon: IconName;
  readonly label: string;
  readonly danger?: boolean;
  readonly onChoose: () => void;
}

export function MenuButton({
  label,
  items,
  tabIndex,
  onFocus,
}: {
  /** Of the button and of its menu. */
  readonly label: string;
  readonly items: readonly MenuItem[];
  readonly tabIndex: number;
  readonly onFocus: () => void;
}) {
  const [opened, open] = useState(false);
  const button = useRef<HTMLButtonElement>(null);
  const close = (back: boolean) => {
    open(false);
    if (back) button.current?.focus();
  };
  return (
    <>
      <button
        ref={button}
        type="button"
        class="icon-button menu-button"
        aria-label={label}
        title={label}
        aria-haspopup="menu"
        aria-expanded={opened}
        tabIndex={tabIndex}
        onFocus={onFocus}
        onClick={() => open(!opened)}
      >
        <Icon name="more" />
      </button>
      {opened && <Menu label={label} items={items} button={button.current!} onClose={close} />}
    </>
  );
}

function Menu({
  label,
  items,
  button,
  onClose,
}: {
  readonly label: string;
  readonly items: readonly MenuItem[];
  readonly button: HTMLElement;
  /** `back`: the focus goes to the button. */
  readonly onClose: (back: boolean) => void;
}) {
  const menu = useRef<HTMLDivElement>(null);
  const entries = () => [...menu.current!.querySelectorAll<HTMLElement>("[role=menuitem]")];
  // Below its button, or above it where there is no room; over all that would cut it off.
  useLayoutEffect(() => {
    const { style, offsetHeight, offsetWidth } = menu.current!;
    const { bottom, top, right } = button.getBoundingClientRect();
    style.top = `${bottom + offsetHeight + 8 > innerHeight ? Math.max(8, top - offsetHeight) : bottom}px`;
    style.left = `${Math.max(8, right - offsetWidth)}px`;
    entries()[0]?.focus({ preventScroll: true });
  }, []);
  useEffect(() => {
    const leave = (event: Event) => {
      const { target } = event;
      if (!(target instanceof Node) || (!menu.current?.contains(target) && !button.contains(target))) onClose(false);
    };
    const away = () => onClose(false);
    addEventListener("pointerdown", leave, true);
    addEventListener("scroll", leave, true);
    addEventListener("resize", away);
    return () => {
      removeEventListener("pointerdown", leave, true);
      removeEventListener("scroll", leave, true);
      removeEventListener("resize", away);
    };
  }, []);
  const move = (event: KeyboardEvent) => {
    const all = entries();
    const at = all.indexOf(document.activeElement as HTMLElement);
    const { key } = event;
    // What it does not know goes on to the browser, and not to the list around it.
    event.stopPropagation();
    if (key === "Tab") return onClose(true);
    const later = [...all.slice(at + 1), ...all];
    const next = {
      ArrowDown: later[0],
      ArrowUp: all.at(at - 1),
      Home: all[0],
      End: all.at(-1),
      Escape: button,
    }[key];
    const named = key.length === 1 && later.find((one) => one.textContent?.toLowerCase().startsWith(key.toLowerCase()));
    const target = next ?? (named || undefined);
    if (target === undefined) return;
    event.preventDefault();
    if (key === "Escape") onClose(true);
    else target.focus();
  };
  return (
    <div ref={menu} class="menu" role="menu" aria-label={label} tabIndex={-1} onKeyDown={move}>
      {items.map(({ icon, label: words, danger = false, onChoose }) => (
        <button
          key={words}
          type="button"
          role="menuitem"
          tabIndex={-1}
          class={danger ? "menu-item danger" : "menu-item"}
          onPointerEnter={({ currentTarget }) => currentTarget.focus()}
          onClick={() => {
            onClose(true);
            onChoose();
          }}
        >
          <Icon name={icon} size={18} />
          {words}
        </button>
      ))}
    </div>
  );
}
