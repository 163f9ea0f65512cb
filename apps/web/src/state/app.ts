// The controller: loads models, asks and answers, keeps conversations. Views show its state and call its methods; it touches no document.
import { Answers } from "./answers.ts";
import { Board, type Surroundings } from "./board.ts";
import { Conversations } from "./conversations.ts";
import { Models } from "./models.ts";

export class App extends Board {
  readonly models: Models;
  readonly conversations: Conversations;
  readonly answers: Answers;

  constructor(around: Surroundings) {
    super(around);
    this.conversations = new Conversations(this, () => this.answers.leave());
    this.answers = new Answers(this, this.conversations);
    this.models = new Models(this);
  }
}
