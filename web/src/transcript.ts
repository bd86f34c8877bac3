/**
 * The conversation as text, folded from text streams.
 *
 * A segment is one stretch of speech. The agent's text comes as one stream of deltas; the user's as a fresh stream of
 * the whole text at each update, with the same segment id, and so does a correction of the agent's. So within one
 * stream text is appended, and a new stream of a known segment replaces what was there. A stream says on closing
 * whether its segment is complete, and whether it was cut off.
 */

export type Speaker = "user" | "agent";

export interface Line {
  readonly segment: string;
  readonly speaker: Speaker;
  readonly text: string;
  /** It will not change. */
  readonly final: boolean;
  /** The speaker was cut off: `text` is what was heard of it. */
  readonly interrupted: boolean;
}

export class Transcript {
  #lines = new Map<string, Line>();
  /** Which stream a segment's text is from: late pieces of an older stream must not overwrite a newer one. */
  #streams = new Map<string, number>();
  #opened = 0;

  constructor(private readonly changed: (line: Line) => void) {}

  /** A stream of this segment begins; append its pieces to what this returns. */
  open(segment: string, speaker: Speaker): TranscriptStream {
    const stream = ++this.#opened;
    const key = `${speaker}/${segment}`;
    this.#streams.set(key, stream);
    let text = "";
    const put = (final: boolean, interrupted: boolean): void => {
      if (this.#streams.get(key) !== stream) return;
      // An utterance that turned out to hold no words leaves an empty line, which the view takes away.
      const line: Line = { segment: key, speaker, text: text.trim(), final, interrupted };
      this.#lines.set(key, line);
      this.changed(line);
    };
    return {
      append: (piece) => {
        text += piece;
        put(false, false);
      },
      close: ({ final, interrupted = false }) => put(final, interrupted),
    };
  }

  /** A stream whose text came in one piece. */
  add(segment: string, speaker: Speaker, text: string, ending: Ending): void {
    const stream = this.open(segment, speaker);
    stream.append(text);
    stream.close(ending);
  }

  clear(): void {
    this.#lines.clear();
    this.#streams.clear();
  }

  get lines(): readonly Line[] {
    return [...this.#lines.values()].filter((line) => line.text !== "");
  }
}

/** How a stream closed: whether its segment is complete, and whether the speaker was cut off. */
export interface Ending {
  readonly final: boolean;
  readonly interrupted?: boolean;
}

export interface TranscriptStream {
  append(piece: string): void;
  close(ending: Ending): void;
}
