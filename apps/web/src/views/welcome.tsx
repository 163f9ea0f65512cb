// What is there before anything has been said.
import icon from "../../public/icon.svg?url";
import { toMessage, useApp, usePage } from "./context.ts";

/** Questions that the demo model answers rightly, one of each kind. */
const EXAMPLES = [
  "Hi, how are you doing today?",
  "Tell me a story about a fox.",
  "What is 7 plus 8?",
  "What is the capital of France?",
  "Count from 10 to 17.",
  "Which month comes after March?",
] as const;

export function Welcome() {
  const { app, offline } = usePage();
  const model = useApp(({ model }) => model);
  const demo = model?.name === "Demo model";
  return (
    <section class="welcome" aria-labelledby="welcome-title">
      <img src={icon} alt="" width={72} height={72} />
      <h1 id="welcome-title">Talk to a small model.</h1>
      <p>
        It runs in this browser, on this machine. What you write goes nowhere else
        {offline === "ready" ? ", and the page works without a network." : "."}
      </p>
      {(demo || model === null) && (
        <p class="quiet">
          The demo model has 1.7 million parameters. It holds small talk, counts, adds small numbers, knows days, months
          and some capitals, and tells short stories. Most other things it answers wrongly.
        </p>
      )}
      <ul class="examples" aria-label="Examples">
        {EXAMPLES.map((question) => (
          <li key={question}>
            <button
              type="button"
              class="example"
              disabled={model?.chats !== true}
              onClick={() => {
                void app.answers.send(question);
                toMessage();
              }}
            >
              {question}
            </button>
          </li>
        ))}
      </ul>
    </section>
  );
}
