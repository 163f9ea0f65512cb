// A dialog over the page: the browser's own element, which keeps the focus inside, closes on Escape and gives the focus back.
import type { ComponentChildren } from "preact";
import { useId, useLayoutEffect, useRef } from "preact/hooks";
import { IconButton } from "./icons.tsx";

export function Dialog({
  title,
  class: className = "",
  onClose,
  children,
}: {
  readonly title: string;
  readonly class?: string;
  readonly onClose: () => void;
  readonly children: ComponentChildren;
}) {
  const dialog = useRef<HTMLDialogElement>(null);
  const heading = useId();
  useLayoutEffect(() => {
    const before = document.activeElement;
    dialog.current?.showModal();
    return () => {
      // Closing gives the focus back by itself; being taken away does not.
      const lost = document.activeElement === null || document.activeElement === document.body;
      if (lost && before instanceof HTMLElement && before.isConnected) before.focus();
    };
  }, []);
  return (
    // biome-ignore lint/a11y/useKeyWithClickEvents: Escape closes it, by the element itself.
    <dialog
      ref={dialog}
      class={`dialog ${className}`}
      aria-labelledby={heading}
      onClose={onClose}
      onClick={({ target }) => {
        // The element reaches behind its contents: what was clicked is the page behind it.
        if (target === dialog.current) dialog.current?.close();
      }}
    >
      <div class="dialog-body">
        <header class="dialog-head">
          <h2 id={heading}>{title}</h2>
          <IconButton icon="close" label="Close" onClick={() => dialog.current?.close()} />
        </header>
        {children}
      </div>
    </dialog>
  );
}
