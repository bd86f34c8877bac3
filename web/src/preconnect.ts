/**
 * What is said before the agent has come: recorded from the first moment, sent to the agent that comes first, and
 * recorded on until its own ears are surely open.
 *
 * LiveKit's client can record by itself. It stops at the server's notice that somebody listens to the track, drops the
 * 60 to 125 ms that the recorder still holds then, and sends an old recording to an agent that comes late. Words are
 * lost where the recording has ended and the live audio has not begun. This one goes on for `OVERLAP` after the notice,
 * so that there is audio that the agent has twice, in which it can find the seam; it sends the recorder's last bytes;
 * and it throws everything away when no agent comes in time. On the wire the two are alike: topic, attributes, format.
 */

export const TOPIC = "lk.agent.pre-connect-audio-buffer";

/** Milliseconds. The way of the notice is not counted in: a notice that comes late makes the overlap longer. */
export const OVERLAP = 300;
/** What was said longer ago than this answers no question any more. As long as LiveKit's clients wait. */
export const PATIENCE = 10_000;
/** A notice may be lost with a connection; the agent listens long before this. */
export const LONGEST_OVERLAP = 1500;
const TIMESLICE = 100;
/** The first that the browser knows: what LiveKit's clients send, and what Safari had before it learnt that. */
const FORMATS = ["audio/webm;codecs=opus", "video/mp4"];

export interface Recording {
  readonly mimeType: string;
  /** All bytes in order; ends after `stop`, when the last have come. Cancelling it stops the recording. */
  readonly bytes: ReadableStream<Uint8Array<ArrayBuffer>>;
  stop(): void;
}

/** Where a recording goes: a byte stream to one agent. */
export interface Sink {
  write(chunk: Uint8Array): Promise<void>;
  close(): Promise<void>;
}

/** Begin to record; `undefined` where the browser cannot. */
export function record(track: MediaStreamTrack): Recording | undefined {
  if (typeof MediaRecorder === "undefined") return undefined;
  const mimeType = FORMATS.find((format) => MediaRecorder.isTypeSupported(format));
  if (mimeType === undefined) return undefined;
  const recorder = new MediaRecorder(new MediaStream([track]), { mimeType });
  const stop = () => {
    if (recorder.state !== "inactive") recorder.stop();
  };
  const bytes = new ReadableStream<Uint8Array<ArrayBuffer>>({
    start(controller) {
      // Bytes are read out of a blob asynchronously: one after the other, and the end after the last of them.
      let read = Promise.resolve();
      const then = (step: () => void | Promise<void>) => {
        read = read.then(step).catch((error: unknown) => controller.error(error));
      };
      recorder.addEventListener("dataavailable", ({ data }) => {
        then(async () => controller.enqueue(new Uint8Array(await data.arrayBuffer())));
      });
      recorder.addEventListener("stop", () => then(() => controller.close()));
      recorder.addEventListener("error", () => then(() => controller.error(new Error("the recorder failed"))));
    },
    cancel: stop,
  });
  recorder.start(TIMESLICE);
  return { mimeType, bytes, stop };
}

export type Stage = "recording" | "sending" | "sent" | "discarded";

/** One recording on its way to one agent. `ended` is called once, when it was sent or thrown away. */
export class PreConnect {
  #stage: Stage = "recording";
  #patience: ReturnType<typeof setTimeout>;
  #stopping: ReturnType<typeof setTimeout> | undefined;
  #listenedTo = false;

  constructor(
    private readonly recording: Recording,
    private readonly ended: (stage: Stage) => void = () => {},
  ) {
    this.#patience = setTimeout(() => this.discard(), PATIENCE);
  }

  get stage(): Stage {
    return this.#stage;
  }

  /** Whether an agent may expect it. */
  get underWay(): boolean {
    return this.#stage === "recording" || this.#stage === "sending";
  }

  get mimeType(): string {
    return this.recording.mimeType;
  }

  /** An agent is here: send it all that was said, and what is still being said. The first agent gets it. */
  async send(open: () => Promise<Sink>): Promise<void> {
    if (this.#stage !== "recording") return;
    this.#stage = "sending";
    clearTimeout(this.#patience);
    this.#stopIn(this.#listenedTo ? OVERLAP : LONGEST_OVERLAP);
    try {
      const sink = await open();
      try {
        for await (const chunk of chunks(this.recording.bytes)) await sink.write(chunk);
      } finally {
        // Whatever happened, an agent that waits for the rest is told that there is none.
        await sink.close();
      }
      this.#end("sent");
    } catch {
      this.discard();
    }
  }

  /** The server says that the track is being listened to. */
  listenedTo(): void {
    if (this.#listenedTo) return;
    this.#listenedTo = true;
    if (this.#stage === "sending") this.#stopIn(OVERLAP);
  }

  /** Record no longer, and send nothing that was not sent. */
  discard(): void {
    if (this.#stage === "sent" || this.#stage === "discarded") return;
    const unread = this.#stage === "recording";
    this.#end("discarded");
    this.recording.stop();
    if (unread) void this.recording.bytes.cancel();
  }

  #stopIn(delay: number): void {
    clearTimeout(this.#stopping);
    this.#stopping = setTimeout(() => this.recording.stop(), delay);
  }

  #end(stage: Stage): void {
    if (this.#stage === "discarded") return;
    this.#stage = stage;
    clearTimeout(this.#patience);
    clearTimeout(this.#stopping);
    this.ended(stage);
  }
}

/** Safari's streams cannot be iterated. */
async function* chunks<Chunk>(stream: ReadableStream<Chunk>): AsyncGenerator<Chunk> {
  const reader = stream.getReader();
  for (let next = await reader.read(); !next.done; next = await reader.read()) yield next.value;
}
